package spec

import (
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/hashicorp/hcl/v2/hclsyntax"
)

// FreezeFile is where the commands write an environment's freezes:
// <environment>/freeze.hcl, or freeze.hcl at the root for every environment.
const FreezeFile = "freeze.hcl"

// AddFreeze appends a freeze block to a file of the native syntax; src may be
// empty. One that says the same already is not added again.
func AddFreeze(src []byte, filename string, f Freeze) ([]byte, error) {
	have, err := FreezesIn(src, filename)
	if err != nil {
		return nil, err
	}
	if slices.ContainsFunc(have, f.same) {
		return src, nil
	}
	var rows [][2]string
	if len(f.Services) > 0 {
		list, err := quotedNames(f.Services)
		if err != nil {
			return nil, err
		}
		rows = append(rows, [2]string{"services", list})
	}
	if !f.From.IsZero() {
		rows = append(rows, [2]string{"from", strconv.Quote(f.From.Format(time.RFC3339))})
	}
	if !f.Until.IsZero() {
		rows = append(rows, [2]string{"until", strconv.Quote(f.Until.Format(time.RFC3339))})
	}
	out := appendBlock(src, "freeze", f.Reason, rows)
	after, err := FreezesIn(out, filename)
	if err != nil {
		return nil, err
	}
	if len(after) != len(have)+1 || !after[len(after)-1].same(f) {
		return nil, fmt.Errorf("%s: the freeze would not read back as it was meant, so nothing was changed: write it by hand", filename)
	}
	return out, nil
}

// RemoveFreeze takes out the freeze blocks that match, with their lines; a
// comment above stays. It answers what it took out.
func RemoveFreeze(src []byte, filename string, match func(Freeze) bool) ([]byte, []Freeze, error) {
	freezes, blocks, err := freezeBlocks(src, filename)
	if err != nil {
		return nil, nil, err
	}
	var gone []Freeze
	var cut []*hclsyntax.Block
	for i, f := range freezes {
		if match(f) {
			gone, cut = append(gone, f), append(cut, blocks[i])
		}
	}
	out := cutBlocks(src, cut)
	after, err := FreezesIn(out, filename)
	if err != nil || len(after) != len(freezes)-len(gone) {
		return nil, nil, fmt.Errorf("%s: the freeze could not be cut out cleanly, so nothing was changed: delete it by hand", filename)
	}
	return out, gone, nil
}

// FreezesIn reads the freeze blocks of one file of the native syntax.
func FreezesIn(src []byte, filename string) ([]Freeze, error) {
	f, _, err := freezeBlocks(src, filename)
	return f, err
}

func freezeBlocks(src []byte, filename string) ([]Freeze, []*hclsyntax.Block, error) {
	if isJSON(filename) {
		return nil, nil, nil
	}
	f, diags := parseForEdit(src, filename)
	if diags.HasErrors() {
		return nil, nil, diags
	}
	var out []Freeze
	var blocks []*hclsyntax.Block
	for _, b := range reasoned(f, "freeze") {
		fr := Freeze{Reason: b.Labels[0], Services: literals(b, "services"), Origin: Origin{Range: b.DefRange()}}
		fr.From, fr.Until = literalTime(b, "from"), literalTime(b, "until")
		out, blocks = append(out, fr), append(blocks, b)
	}
	return out, blocks, nil
}
