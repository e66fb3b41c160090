package spec

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/hashicorp/hcl/v2"
)

// Origin says where a thing was written: which commit of the config
// repository, and which range of which file. It travels with every value, so
// that an error at three in the morning can name the line that asked for it.
type Origin struct {
	Commit string    // full hash; empty where no commit is known (a plain directory)
	Range  hcl.Range // Filename is relative to the repository's root, with slashes
}

// String is "prod/web.hcl:12@4f2a91c", or without the "@" part where no commit
// is known. The zero Origin is "".
func (o Origin) String() string {
	if o.Range.Filename == "" {
		return ""
	}
	s := fmt.Sprintf("%s:%d", o.Range.Filename, o.Range.Start.Line)
	if o.Commit != "" {
		s += "@" + Short(o.Commit)
	}
	return s
}

// MarshalText is String with the full commit, so that a journal can find its
// way back to the exact file. Columns are not kept.
func (o Origin) MarshalText() ([]byte, error) {
	if o.Range.Filename == "" {
		return nil, nil
	}
	s := fmt.Sprintf("%s:%d", o.Range.Filename, o.Range.Start.Line)
	if o.Commit != "" {
		s += "@" + o.Commit
	}
	return []byte(s), nil
}

// UnmarshalText reads what MarshalText wrote.
func (o *Origin) UnmarshalText(text []byte) error {
	*o = Origin{}
	s := string(text)
	if s == "" {
		return nil
	}
	if i := strings.LastIndexByte(s, '@'); i >= 0 {
		s, o.Commit = s[:i], s[i+1:]
	}
	i := strings.LastIndexByte(s, ':')
	if i < 0 {
		return fmt.Errorf("origin %q has no line", text)
	}
	line, err := strconv.Atoi(s[i+1:])
	if err != nil {
		return fmt.Errorf("origin %q: %w", text, err)
	}
	o.Range.Filename = s[:i]
	o.Range.Start.Line, o.Range.End.Line = line, line
	return nil
}

// Short is the first seven characters of a commit's hash, as git shows it.
func Short(commit string) string {
	if len(commit) > 7 {
		return commit[:7]
	}
	return commit
}
