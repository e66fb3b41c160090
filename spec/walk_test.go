package spec_test

import (
	"fmt"
	"io/fs"
	"strings"
	"testing"
	"testing/fstest"

	"drydock/spec"
)

// wide is a folder that holds itself under ten names, which git says in one object.
type wide struct{ fstest.MapFS }

func (w wide) ReadDir(name string) ([]fs.DirEntry, error) {
	if name == "." {
		return w.MapFS.ReadDir(name)
	}
	var out []fs.DirEntry
	for i := range 10 {
		out = append(out, entry(fmt.Sprintf("d%d", i)))
	}
	return out, nil
}

type entry string

func (e entry) Name() string               { return string(e) }
func (e entry) IsDir() bool                { return true }
func (e entry) Type() fs.FileMode          { return fs.ModeDir }
func (e entry) Info() (fs.FileInfo, error) { return nil, fs.ErrNotExist }

func TestFoldersWithoutEnd(t *testing.T) {
	_, diags := spec.Load("", wide{fstest.MapFS{"prod/x": {}}})
	if !strings.Contains(diags.Error(), "Too many files") {
		t.Errorf("got %v", diags)
	}
}
