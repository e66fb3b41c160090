package hostagent

import (
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/hcl/v2"

	"drydock/spec"
)

// TestConfigReference: what `drydock explain hostagent.hcl` says is what the
// decoder takes.
func TestConfigReference(t *testing.T) {
	d := &configDecoder{config: &Config{}}
	for path, section := range map[string]*configSection{
		"hostagent.hcl":            d.top(),
		"hostagent.hcl.host":       d.host(),
		"hostagent.hcl.source":     d.source(),
		"hostagent.hcl.trust":      d.trust(hcl.Range{}),
		"hostagent.hcl.trust.role": d.role([]string{"x"}, hcl.Range{}),
	} {
		ref, err := spec.Look(path)
		if err != nil {
			t.Fatal(err)
		}
		var says, must []string
		for _, a := range ref.Attributes {
			says = append(says, a.Name)
			if a.Required {
				must = append(must, a.Name)
			}
			if a.Doc == "" {
				t.Errorf("%s.%s has no doc", path, a.Name)
			}
		}
		for _, b := range ref.Blocks {
			says = append(says, b.Path[len(path)+1:])
		}
		takes := section.words()
		slices.Sort(says)
		slices.Sort(takes)
		if diff := cmp.Diff(takes, says); diff != "" {
			t.Errorf("%s: the decoder takes (-), explain says (+):\n%s", path, diff)
		}
		if diff := cmp.Diff(section.required, must); diff != "" {
			t.Errorf("%s: required by the decoder (-), by explain (+):\n%s", path, diff)
		}
	}
	for _, kind := range []string{"alone", "etcd"} {
		if _, err := spec.Look("hostagent.hcl.coordinate." + kind); err != nil {
			t.Error(err)
		}
		d.diags = nil
		d.coordinate([]string{kind}, hcl.Range{})
		for _, diag := range d.diags {
			if diag.Summary == "Unknown coordination" {
				t.Errorf("the decoder does not know %q", kind)
			}
		}
	}
}
