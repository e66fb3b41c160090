package spec

import (
	"sort"
	"strings"

	"github.com/hashicorp/hcl/v2"
)

// Fleet is one commit's declarations.
type Fleet struct {
	commit string
	root   []*file
	envs   map[string]*environment
	byName map[string]*file // made when first asked for
	broken hcl.Diagnostics  // hold every environment

	declared map[string]bool // services of any environment; made when first asked for
}

// environment is one top-level folder.
type environment struct {
	name   string
	files  []*file
	broken hcl.Diagnostics
	odd    bool // a link or submodule, no folder
	scope  *scope
}

func (f *Fleet) env(name string) *environment {
	e := f.envs[name]
	if e == nil {
		e = &environment{name: name}
		f.envs[name] = e
	}
	return e
}

// Commit is the commit that was loaded, as it was given to Load.
func (f *Fleet) Commit() string { return f.commit }

// Environments are the folders that hold files of the language, sorted.
func (f *Fleet) Environments() []string {
	var out []string
	for name, e := range f.envs {
		if !e.odd {
			out = append(out, name)
		}
	}
	sort.Strings(out)
	return out
}

func (f *Fleet) index() map[string]*file {
	if f.byName == nil {
		f.byName = map[string]*file{}
		for _, file := range f.root {
			f.byName[file.name] = file
		}
		for _, e := range f.envs {
			for _, file := range e.files {
				f.byName[file.name] = file
			}
		}
	}
	return f.byName
}

// Source is a file's content, for a diagnostic's snippet; nil if there is none.
func (f *Fleet) Source(name string) []byte {
	if file := f.index()[name]; file != nil {
		return file.src
	}
	return nil
}

// Files are all files in the form that hcl.NewDiagnosticTextWriter takes; they
// hold bytes only.
func (f *Fleet) Files() map[string]*hcl.File {
	all := f.index()
	out := make(map[string]*hcl.File, len(all))
	for name, file := range all {
		out[name] = &hcl.File{Bytes: file.src}
	}
	return out
}

// MinVersion is the highest min_version at the root, and where it stands; ""
// if nobody asks for one. Versions are compared as numbers between dots.
func (f *Fleet) MinVersion() (string, Origin) {
	best, at := "", Origin{}
	for _, file := range f.root {
		if file.min != "" && (best == "" || olderVersion(best, file.min)) {
			best, at = file.min, Origin{f.commit, file.minAt}
		}
	}
	return best, at
}

// Declared is a service where no host is known: for validate, diff and bump.
// In its blocks, what depends on the host is [KnownOnHost]; Release.Digest is
// empty where there is one per platform.
type Declared struct {
	Service
	File  string // that declares it
	Hosts Selector

	// ReleaseRanges is where version, digest, digests and attempt are written.
	ReleaseRanges map[string]hcl.Range
}

// Forgotten is a host that will not return.
type Forgotten struct {
	Host   string `json:"host"`
	Reason string `json:"reason,omitempty"`
	Origin Origin `json:"origin"`
}

// Faults are the errors that hold a whole environment at its last good commit:
// a file of it, or at the root, that does not parse or breaks a guard, and an
// error in a block that belongs to no service. Empty: none.
func (f *Fleet) Faults(environment string) hcl.Diagnostics {
	out := append(hcl.Diagnostics(nil), f.broken...)
	for _, file := range f.root {
		out = append(out, file.diags...)
	}
	e := f.envs[environment]
	if e == nil {
		return errorsOf(append(out, f.noEnvironment(environment)))
	}
	out = append(out, e.broken...)
	for _, file := range e.files {
		out = append(out, file.diags...)
	}
	out = append(out, f.scopeOf(e).faults...)
	return errorsOf(out)
}

// noEnvironment has no subject: what is not there stands on no line.
func (f *Fleet) noEnvironment(name string) *hcl.Diagnostic {
	all := f.Environments()
	detail := ": no top-level folder of that name holds *.hcl files. Make it, if only with an empty file, or correct the name."
	if len(all) > 0 { // none, or only this one was looked for
		detail = "." + didYouMean(name, all) + " Environments are the top-level folders that hold *.hcl files: " + strings.Join(all, ", ") + "."
	}
	d := problem(hcl.Range{}, "Unknown environment", "There is no environment %q at %s%s", name, orThis(Short(f.commit)), detail)
	d.Subject = nil
	return d
}

func orThis(commit string) string {
	if commit == "" {
		return "this place"
	}
	return commit
}

func errorsOf(diags hcl.Diagnostics) hcl.Diagnostics {
	var out hcl.Diagnostics
	for _, d := range diags {
		if d.Severity == hcl.DiagError {
			out = append(out, d)
		}
	}
	return out
}

// Services are an environment's services where no host is known, sorted by
// name. One with an error is left out; its diagnostics are returned.
func (f *Fleet) Services(environment string) ([]Declared, hcl.Diagnostics) {
	e := f.envs[environment]
	if e == nil {
		return nil, hcl.Diagnostics{f.noEnvironment(environment)}
	}
	sc := f.scopeOf(e)
	var out []Declared
	var diags hcl.Diagnostics
	for _, name := range sc.names {
		for _, h := range sc.named(name) {
			d, ds := sc.service(h, nil)
			diags = append(diags, ds...)
			if !ds.HasErrors() {
				out = append(out, d)
			}
		}
	}
	sc.drop()
	return out, unique(diags)
}

// Removals are an environment's removed blocks, for whatever hosts, in the order
// of their files. Where the environment has faults, there is no saying which.
func (f *Fleet) Removals(environment string) ([]Removed, hcl.Diagnostics) {
	if faults := f.Faults(environment); len(faults) > 0 {
		return nil, faults
	}
	sc := f.scopeOf(f.envs[environment])
	var out []Removed
	for _, r := range sc.removed {
		out = append(out, Removed{r.name, r.hash(), Origin{f.commit, r.at}})
	}
	return out, nil
}
