package main

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"drydock/spec"
	"github.com/spf13/cobra"
)

func newFmt(s streams) *cobra.Command {
	var check bool
	var output string
	cmd := &cobra.Command{
		Use:   "fmt [PATH]…",
		Short: "Bring files into the canonical style",
		Long: `Fmt rewrites the *.hcl files of a directory (or single files) in the canonical
style, and lists those that it changed. Folders that begin with a dot are passed
over. With --check it changes nothing, and exits with 3 if it would have.`,
		RunE: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 {
				args = []string{"."}
			}
			changed, failed := []string{}, 0
			for _, arg := range args {
				err := eachSource(arg, func(path string) error {
					did, err := formatFile(path, check)
					if err != nil {
						report(s, err)
						failed++
					} else if did {
						changed = append(changed, path)
						if output == "text" {
							fmt.Fprintln(s.Out, path)
						}
					}
					return nil
				})
				if err != nil {
					return err
				}
			}
			if output == "json" {
				if err := s.json(map[string]any{"changed": changed, "failed": failed}); err != nil {
					return err
				}
			}
			switch {
			case failed > 0:
				return exitCode(1)
			case check && len(changed) > 0:
				return exitCode(3)
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&check, "check", false, "only list; exit 3 if there are any")
	outputFlag(cmd, &output, "text", "json")
	return cmd
}

// eachSource calls f for a file, or for each file of the native syntax in a directory.
func eachSource(root string, f func(path string) error) error {
	if !isDir(root) {
		if _, err := os.Stat(root); err != nil {
			return err
		}
		return f(root)
	}
	return filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && path != root && strings.HasPrefix(d.Name(), "."):
			return fs.SkipDir
		case d.Type().IsRegular() && filepath.Ext(path) == ".hcl" && !strings.HasPrefix(d.Name(), "."):
			return f(path)
		}
		return nil
	})
}

func formatFile(path string, check bool) (changed bool, err error) {
	if !strings.HasSuffix(path, ".hcl") {
		return false, errors.New(path + " is no .hcl file, which is all that fmt knows")
	}
	src, err := os.ReadFile(path)
	if err != nil {
		return false, err
	}
	out, err := spec.Format(src, path)
	if err != nil {
		return false, inFile(err, path, src)
	}
	if bytes.Equal(src, out) {
		return false, nil
	}
	if check {
		return true, nil
	}
	return true, replaceFile(path, out)
}
