package spec_test

import (
	"io/fs"
	"reflect"
	"testing"

	"drydock/spec"
)

// A host's loader says of its own environment what a whole load says, and does
// not as much as open the files of another.
func TestLoaderOfOneEnvironment(t *testing.T) {
	files := fleetFiles(40)
	files["staging/a.hcl"] = `service {`
	files["staging/b.hcl"] = serviceFile(1, "2")
	l := &spec.Loader{Only: "prod"}
	only, diags := l.Load("c", notBelow{repo(files), "staging"})
	if diags.HasErrors() {
		t.Fatal(diags)
	}
	if got := only.Environments(); !reflect.DeepEqual(got, []string{"prod"}) {
		t.Errorf("environments %v", got)
	}
	whole, _ := spec.Load("c", repo(files))
	h := benchHost()
	h.Labels["role"] = "r1"
	w1, d1 := only.For(h)
	w2, d2 := whole.For(h)
	if len(w1.Services) != 20 || !reflect.DeepEqual(w1, w2) || !reflect.DeepEqual(d1, d2) {
		t.Errorf("%d services and %v, but a whole load says %d and %v", len(w1.Services), d1, len(w2.Services), d2)
	}
}

// notBelow refuses to open a folder and all in it.
type notBelow struct {
	fs.FS
	dir string
}

func (n notBelow) Open(name string) (fs.File, error) {
	if name == n.dir || len(name) > len(n.dir) && name[:len(n.dir)+1] == n.dir+"/" {
		return nil, fs.ErrPermission
	}
	return n.FS.Open(name)
}
