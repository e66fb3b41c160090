package spec

import "github.com/hashicorp/hcl/v2"

// Guard refuses a file that the parser could choke on, for files in the same
// notation that stand outside of a repository.
func Guard(name string, src []byte) hcl.Diagnostics { return guard(name, src) }

// DidYouMean is " Did you mean ...?" for the nearest of some words, or "".
func DidYouMean(word string, words []string) string { return didYouMean(word, words) }
