package main

import (
	"embed"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"
)

//go:embed all:starter
var starter embed.FS

func newInit(s streams) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "init [DIR]",
		Short: "A config repository to start from",
		Long: `Init writes a small config repository that validates: two environments, a profile
and one service, each line of it explained. It overwrites nothing.`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			dir := "."
			if len(args) > 0 {
				dir = args[0]
			}
			files, err := writeStarter(dir)
			if err != nil {
				return err
			}
			for _, f := range files {
				fmt.Fprintln(s.Out, filepath.Join(dir, f))
			}
			s.note("\nNext: read %s, put your first service in staging, then\n  drydock validate %s", filepath.Join(dir, "README.md"), dir)
			return nil
		},
	}
	return cmd
}

// writeStarter writes all files or, if one is there already, none.
func writeStarter(dir string) ([]string, error) {
	sub, err := fs.Sub(starter, "starter")
	if err != nil {
		return nil, err
	}
	var files []string
	err = fs.WalkDir(sub, ".", func(p string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		if _, err := os.Lstat(filepath.Join(dir, p)); err == nil {
			return fmt.Errorf("%s is there already, and init overwrites nothing: name an empty directory", filepath.Join(dir, p))
		}
		files = append(files, p)
		return nil
	})
	if err != nil {
		return nil, err
	}
	for _, p := range files {
		data, err := fs.ReadFile(sub, p)
		if err != nil {
			return nil, err
		}
		if err := replaceFile(filepath.Join(dir, p), data); err != nil {
			return nil, err
		}
	}
	return files, nil
}
