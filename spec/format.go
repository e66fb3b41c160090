package spec

import (
	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/hashicorp/hcl/v2/hclwrite"
)

// Format is a file of the language's native syntax in its canonical style. A
// file that does not parse, or that no host would read, is an error
// ([hcl.Diagnostics]) and not formatted.
func Format(src []byte, filename string) ([]byte, error) {
	if diags := guard(filename, src); diags.HasErrors() {
		return nil, diags
	}
	if _, diags := hclsyntax.ParseConfig(src, filename, hcl.InitialPos); diags.HasErrors() {
		return nil, diags
	}
	return hclwrite.Format(src), nil
}
