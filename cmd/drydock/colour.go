package main

import "os"

// colour reports whether w is a terminal whose person did not say NO_COLOR.
func colour(w any) bool {
	return os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb" && isTerminal(w)
}
