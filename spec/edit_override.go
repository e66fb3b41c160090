package spec

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/hashicorp/hcl/v2/hclsyntax"
)

// OverrideFile is where the commands write an environment's overrides:
// <environment>/override.hcl.
const OverrideFile = "override.hcl"

// Skips are the gates that an override can open.
func Skips() []string {
	return slices.Clone(language().block("override").attr("skip").words)
}

// AddOverride appends an override block to a file of the native syntax; src may
// be empty. One that says the same already is not added again.
func AddOverride(src []byte, filename string, o Override) ([]byte, error) {
	have, err := OverridesIn(src, filename)
	if err != nil {
		return nil, err
	}
	if slices.ContainsFunc(have, o.same) {
		return src, nil
	}
	if len(o.Skip) == 0 || o.Until.IsZero() {
		return nil, fmt.Errorf("an override names the gates that it opens, and when it ends")
	}
	var rows [][2]string
	if len(o.Services) > 0 {
		list, err := quotedNames(o.Services)
		if err != nil {
			return nil, err
		}
		rows = append(rows, [2]string{"services", list})
	}
	var skip []string
	for _, s := range o.Skip {
		if !slices.Contains(Skips(), s) {
			return nil, fmt.Errorf("no override opens %q.%s It opens %s", s, didYouMean(s, Skips()), strings.Join(Skips(), ", "))
		}
		skip = append(skip, strconv.Quote(s))
	}
	rows = append(rows, [2]string{"skip", "[" + strings.Join(skip, ", ") + "]"},
		[2]string{"until", strconv.Quote(o.Until.Format(time.RFC3339))})
	out := appendBlock(src, "override", o.Reason, rows)
	after, err := OverridesIn(out, filename)
	if err != nil {
		return nil, err
	}
	if len(after) != len(have)+1 || !after[len(after)-1].same(o) {
		return nil, fmt.Errorf("%s: the override would not read back as it was meant, so nothing was changed: write it by hand", filename)
	}
	return out, nil
}

func (o Override) same(p Override) bool {
	return o.Reason == p.Reason && slices.Equal(o.Services, p.Services) && slices.Equal(o.Skip, p.Skip) && o.Until.Equal(p.Until)
}

// RemoveOverride takes out the override blocks that match, as RemoveFreeze does.
func RemoveOverride(src []byte, filename string, match func(Override) bool) ([]byte, []Override, error) {
	all, blocks, err := overrideBlocks(src, filename)
	if err != nil {
		return nil, nil, err
	}
	var gone []Override
	var cut []*hclsyntax.Block
	for i, o := range all {
		if match(o) {
			gone, cut = append(gone, o), append(cut, blocks[i])
		}
	}
	out := cutBlocks(src, cut)
	after, err := OverridesIn(out, filename)
	if err != nil || len(after) != len(all)-len(gone) {
		return nil, nil, fmt.Errorf("%s: the override could not be cut out cleanly, so nothing was changed: delete it by hand", filename)
	}
	return out, gone, nil
}

// OverridesIn reads the override blocks of one file of the native syntax.
func OverridesIn(src []byte, filename string) ([]Override, error) {
	o, _, err := overrideBlocks(src, filename)
	return o, err
}

func overrideBlocks(src []byte, filename string) ([]Override, []*hclsyntax.Block, error) {
	if isJSON(filename) {
		return nil, nil, nil
	}
	f, diags := parseForEdit(src, filename)
	if diags.HasErrors() {
		return nil, nil, diags
	}
	var out []Override
	var blocks []*hclsyntax.Block
	for _, b := range reasoned(f, "override") {
		out = append(out, Override{Reason: b.Labels[0], Services: literals(b, "services"), Skip: literals(b, "skip"),
			Until: literalTime(b, "until"), Origin: Origin{Range: b.DefRange()}})
		blocks = append(blocks, b)
	}
	return out, blocks, nil
}
