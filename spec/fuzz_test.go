package spec_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"testing"
	"testing/fstest"

	"drydock/spec"

	"github.com/hashicorp/hcl/v2"
	"golang.org/x/tools/txtar"
)

// Whatever a file holds: loading does not panic, every diagnostic lies inside
// its file, and the same input gives the same output, also through a loader's
// memory.
func FuzzLoad(f *testing.F)     { fuzzLoad(f, "prod/web.hcl") }
func FuzzLoadJSON(f *testing.F) { fuzzLoad(f, "prod/web.hcl.json") }

func fuzzLoad(f *testing.F, name string) {
	seeds := 0
	tables, _ := filepath.Glob("testdata/spec/*.txtar")
	for _, table := range tables {
		data, err := os.ReadFile(table)
		if err != nil {
			f.Fatal(err)
		}
		for _, file := range txtar.Parse(data).Files {
			if filepath.Ext(file.Name) == filepath.Ext(name) && len(file.Data) < 4<<10 {
				f.Add(file.Data)
				seeds++
			}
		}
	}
	if seeds == 0 {
		f.Fatal("no corpus")
	}
	host := spec.Host{Name: "web-1", OS: "linux", Arch: "amd64", Environment: "prod", Labels: map[string]string{"role": "web", "zone": "a"}}
	root := []byte("profile \"p\" {\n  check \"tcp\" { address = \"127.0.0.1:1\" }\n}\nlocals {\n  port = 80\n}\n")
	loader := spec.NewLoader()
	f.Fuzz(func(t *testing.T, data []byte) {
		fsys := fstest.MapFS{name: {Data: data}, "fleet.hcl": {Data: root}}
		fleet, loading := spec.Load("c", fsys)
		w, diags := fleet.For(host)
		all := append(append(append(hcl.Diagnostics{}, loading...), diags...), fleet.Validate()...)
		for _, d := range all {
			within(t, fleet, d.Subject)
			within(t, fleet, d.Context)
		}
		for _, s := range w.Services {
			j, err := json.Marshal(s)
			if err != nil || len(s.SpecHash) != 64 {
				t.Fatalf("%s: %v", j, err)
			}
		}
		if fleet.Faults("prod").HasErrors() && len(w.Services) > 0 {
			t.Fatal("a faulty environment runs something")
		}
		again, _ := loader.Load("c", fsys)
		if w2, d2 := again.For(host); !reflect.DeepEqual(w, w2) || !reflect.DeepEqual(diags, d2) {
			t.Fatalf("not the same twice:\n%v\n%v", w, w2)
		}
	})
}

func within(t *testing.T, f *spec.Fleet, r *hcl.Range) {
	t.Helper()
	if r == nil {
		return
	}
	src := f.Source(r.Filename)
	lines := 1
	for _, b := range src {
		if b == '\n' {
			lines++
		}
	}
	if r.Start.Byte < 0 || r.Start.Byte > r.End.Byte || r.End.Byte > len(src) || r.Start.Line < 1 || r.End.Line > lines {
		t.Fatalf("%v lies outside its file of %d bytes and %d lines", r, len(src), lines)
	}
}
