package spec

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/hashicorp/hcl/v2/hclsyntax"
)

// OverrideFile is where the commands write an environment's overrides:
// <environment>/override.hcl.
const OverrideFile = "override.hcl"

// Skips are the gates that an override can open.
func Skips() []string {
	return slices.Clone(language().block("override").attr("skip").words)
}

func overrides() notice[Override] {
	return notice[Override]{"override", readOverride, Override.same}
}

func readOverride(reason string, b *hclsyntax.Block) Override {
	return Override{Reason: reason, Services: literals(b, "services"), Skip: literals(b, "skip"),
		Until: literalTime(b, "until"), Origin: Origin{Range: b.DefRange()}}
}

func (o Override) same(p Override) bool {
	return o.Reason == p.Reason && slices.Equal(o.Services, p.Services) && slices.Equal(o.Skip, p.Skip) && o.Until.Equal(p.Until)
}

// AddOverride appends an override block to a file of the native syntax; src may
// be empty. One that says the same already is not added again.
func AddOverride(src []byte, filename string, o Override) ([]byte, error) {
	if len(o.Skip) == 0 || o.Until.IsZero() {
		return nil, errors.New("an override names the gates that it opens, and when it ends")
	}
	rows, err := serviceRows(o.Services)
	if err != nil {
		return nil, err
	}
	var skip []string
	for _, s := range o.Skip {
		if !slices.Contains(Skips(), s) {
			return nil, fmt.Errorf("no override opens %q.%s It opens %s", s, didYouMean(s, Skips()), strings.Join(Skips(), ", "))
		}
		skip = append(skip, strconv.Quote(s))
	}
	rows = append(rows, [2]string{"skip", "[" + strings.Join(skip, ", ") + "]"}, [2]string{"until", quotedTime(o.Until)})
	return overrides().add(src, filename, o.Reason, o, rows)
}

// RemoveOverride takes out the override blocks that match, as RemoveFreeze does.
func RemoveOverride(src []byte, filename string, match func(Override) bool) ([]byte, []Override, error) {
	return overrides().remove(src, filename, match)
}
