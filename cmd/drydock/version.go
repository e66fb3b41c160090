package main

import (
	"cmp"
	"fmt"
	"runtime"
	"runtime/debug"

	"drydock/spec"
	"github.com/spf13/cobra"
)

// build is what this binary was made from.
type build struct {
	Version  string `json:"version"`
	Commit   string `json:"commit,omitempty"`
	Time     string `json:"time,omitempty"`
	Modified bool   `json:"modified"`
	Go       string `json:"go"`
	Platform string `json:"platform"`
}

// released is the version that packages are built as, given to the linker
// (-X main.released=v1.2.3); "" leaves it to what Go knows of the source.
var released string

func thisBuild() build {
	b := build{Version: "devel", Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return b
	}
	if v := info.Main.Version; v != "" && v != "(devel)" {
		b.Version = v
	}
	b.Version = cmp.Or(released, b.Version)
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			b.Commit = s.Value
		case "vcs.time":
			b.Time = s.Value
		case "vcs.modified":
			b.Modified = s.Value == "true"
		}
	}
	return b
}

// String is "drydock 1.2.0 (4f2a91c, modified) go1.26.8 linux/amd64".
func (b build) String() string {
	from := ""
	if b.Commit != "" {
		from = fmt.Sprintf(" (%s%s)", spec.Short(b.Commit), map[bool]string{true: ", modified"}[b.Modified])
	}
	return fmt.Sprintf("drydock %s%s %s %s", b.Version, from, b.Go, b.Platform)
}

func newVersion(s streams) *cobra.Command {
	var output string
	cmd := &cobra.Command{
		Use:   "version",
		Short: "What this binary was made from",
		Args:  cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			if output == "json" {
				return s.json(thisBuild())
			}
			_, err := fmt.Fprintln(s.Out, thisBuild())
			return err
		},
	}
	outputFlag(cmd, &output, "text", "json")
	return cmd
}
