package spec

import "github.com/hashicorp/hcl/v2/hclsyntax"

// FreezeFile is where the commands write an environment's freezes:
// <environment>/freeze.hcl, or freeze.hcl at the root for every environment.
const FreezeFile = "freeze.hcl"

func freezes() notice[Freeze] {
	return notice[Freeze]{"freeze", readFreeze, Freeze.same}
}

func readFreeze(reason string, b *hclsyntax.Block) Freeze {
	return Freeze{Reason: reason, Services: literals(b, "services"),
		From: literalTime(b, "from"), Until: literalTime(b, "until"), Origin: Origin{Range: b.DefRange()}}
}

// AddFreeze appends a freeze block to a file of the native syntax; src may be
// empty. One that says the same already is not added again.
func AddFreeze(src []byte, filename string, f Freeze) ([]byte, error) {
	rows, err := serviceRows(f.Services)
	if err != nil {
		return nil, err
	}
	if !f.From.IsZero() {
		rows = append(rows, [2]string{"from", quotedTime(f.From)})
	}
	if !f.Until.IsZero() {
		rows = append(rows, [2]string{"until", quotedTime(f.Until)})
	}
	return freezes().add(src, filename, f.Reason, f, rows)
}

// RemoveFreeze takes out the freeze blocks that match, with their lines; a
// comment above stays. It answers what it took out.
func RemoveFreeze(src []byte, filename string, match func(Freeze) bool) ([]byte, []Freeze, error) {
	return freezes().remove(src, filename, match)
}
