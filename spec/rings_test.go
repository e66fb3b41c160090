package spec_test

import (
	"fmt"
	"testing"
	"testing/fstest"

	"drydock/spec"
)

// Who stands in a circle is told from who only leads to one, and both are held.
func TestWhoStandsInTheCircle(t *testing.T) {
	body := ""
	for name, deps := range map[string]string{"a": `"b", "z"`, "b": `"c"`, "c": `"d", "z"`, "d": `"b"`, "y": `"z"`, "z": ``, "own": `"own"`} {
		body += fmt.Sprintf("service %q {\n  hosts = {}\n  release { version = \"1\" }\n  depends_on = [%s]\n}\n", name, deps)
	}
	f, _ := spec.Load("", fstest.MapFS{"prod/s.hcl": {Data: []byte(body)}})
	w, _ := f.For(spec.Host{Name: "h", Environment: "prod"})
	got := map[string]string{}
	for _, s := range w.Services {
		got[s.Name] = "runs"
	}
	for name, diags := range w.Held {
		got[name] = "held"
		for _, d := range diags {
			if d.Summary == "Dependencies in a circle" {
				got[name] = "circle"
			}
		}
	}
	want := map[string]string{"a": "held", "b": "circle", "c": "circle", "d": "circle", "own": "circle", "y": "runs", "z": "runs"}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("got %v, want %v", got, want)
	}
}
