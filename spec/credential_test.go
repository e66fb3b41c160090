package spec

import (
	"encoding/json"
	"slices"
	"testing"
)

// A block names its credentials by the schema: what only looks like one, in an
// attribute that takes none, is a value like any other.
func TestCredentialsOfABlock(t *testing.T) {
	for name, c := range map[string]struct {
		block  Block
		config string
		want   []string
	}{
		"one":             {Block{Type: "migrate", Driver: "sql"}, `{"url":{"credential":"db"},"engine":"postgres"}`, []string{"db"}},
		"a value":         {Block{Type: "migrate", Driver: "sql"}, `{"url":"/var/lib/web.db"}`, nil},
		"looks like one":  {Block{Type: "start", Driver: "process"}, `{"env":{"credential":"db"}}`, nil},
		"nothing":         {Block{Type: "drain", Driver: "consul"}, `{}`, nil},
		"not there":       {Block{Type: "drain", Driver: "consul"}, ``, nil},
		"a hook":          {Block{Type: "run", Driver: "token"}, `{"command":["x"]}`, nil},
		"a later version": {Block{Type: "drain", Driver: "quantum"}, `{"token":{"credential":"x"}}`, nil},
		"a later block":   {Block{Type: "teleport", Driver: "x"}, `{"token":{"credential":"x"}}`, nil},
	} {
		c.block.Config = json.RawMessage(c.config)
		if got := c.block.Credentials(); !slices.Equal(got, c.want) {
			t.Errorf("%s: %v, expected %v", name, got, c.want)
		}
	}
	a := Artifact{Headers: map[string]Text{"B": {Credential: "b"}, "A": {Credential: "a"}, "C": {Value: "c"}, "D": {Credential: "a"}}}
	if got := a.Credentials(); !slices.Equal(got, []string{"a", "b"}) {
		t.Errorf("of an artifact: %v", got)
	}
}
