package gitsource

import (
	"context"
	"fmt"
)

// fetchUntilKilled is the child of TestKilledMidFetch.
func fetchUntilKilled(url, dir string) int {
	s, err := Open(Options{URL: url, Dir: dir})
	if err != nil {
		fmt.Println(err)
		return 1
	}
	if _, err := s.Head(context.Background(), ""); err != nil {
		fmt.Println(err)
		return 1
	}
	return 0
}
