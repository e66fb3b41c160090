package durable

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestCanMake(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "file"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("nowhere", filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(dir, "closed"), 0o555); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		"": "", "a": "", "a/b/c": "", "file": "is not a directory", "file/x/y": "file is not a directory",
		"link/x": "leads nowhere", "closed": "cannot be written to", "closed/x": "cannot be written to",
	} {
		if os.Geteuid() == 0 && strings.HasPrefix(path, "closed") {
			want = "" // root may
		}
		err := CanMake(filepath.Join(dir, path))
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%q: %v, expected %q", path, err, want)
		}
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 3 {
		t.Errorf("it made something: %v, %v", left, err)
	}
}
