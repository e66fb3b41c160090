package spec

import (
	"bytes"
	"cmp"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"slices"
	"sort"
	"strconv"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	hcljson "github.com/hashicorp/hcl/v2/json"
	"github.com/zclconf/go-cty/cty"
)

// Change is what a bump writes into a release block. It is the whole release:
// what it leaves empty the block will not have afterwards.
type Change struct {
	Version string
	Digest  string            // "sha256:<64 hex>" or "git:<commit>"
	Digests map[string]string // instead, per platform: "linux/amd64" -> digest
	Attempt int               // 0 and 1 are both the first; an attempt that is written is set to 1
}

// Equal reports whether both name the same release and attempt.
func (c Change) Equal(o Change) bool {
	return c.Version == o.Version && c.Digest == o.Digest && maps.Equal(c.Digests, o.Digests) &&
		max(c.Attempt, 1) == max(o.Attempt, 1)
}

// editableRelease is all that a release block may hold.
var editableRelease = &hcl.BodySchema{Attributes: []hcl.AttributeSchema{
	{Name: "version"}, {Name: "digest"}, {Name: "digests"}, {Name: "attempt"},
}}

// Bump returns src with the release block of one service saying c. It splices
// values where they stand, so that every byte outside the block, and within it
// every comment, space and line end, stays what it was; values that already say
// c are not touched. filename decides the syntax (*.json is HCL's JSON form)
// and names the file in errors, which are [hcl.Diagnostics].
//
// The result has been parsed again: it says c, and nothing but the release
// block's values differs.
func Bump(src []byte, filename, service string, c Change) ([]byte, error) {
	if err := c.check(); err != nil {
		return nil, err
	}
	site, diags := findRelease(src, filename, service)
	if diags.HasErrors() {
		return nil, diags
	}
	splices, diags := site.edits(c)
	if diags.HasErrors() {
		return nil, diags
	}
	out := splice(src, splices)
	if err := verifyBump(site, out, filename, service, c); err != nil {
		return nil, err
	}
	return out, nil
}

// ReleaseIn reads the release block of one service of a file, without the rest
// of the repository. The range is that of the release block's header.
func ReleaseIn(src []byte, filename, service string) (Change, hcl.Range, error) {
	site, diags := findRelease(src, filename, service)
	if diags.HasErrors() {
		return Change{}, hcl.Range{}, diags
	}
	c, diags := site.read()
	if diags.HasErrors() {
		return Change{}, site.block.DefRange, diags
	}
	return c, site.block.DefRange, nil
}

// ServicesIn lists the names of the services that a file declares, in order of
// declaration.
func ServicesIn(src []byte, filename string) ([]string, error) {
	f, diags := parseForEdit(src, filename)
	if diags.HasErrors() {
		return nil, diags
	}
	return servicesIn(f), nil
}

func servicesIn(f *hcl.File) []string {
	var names []string
	for _, b := range serviceBlocks(f) {
		names = append(names, b.Labels[0])
	}
	return names
}

// Locate finds the file below an environment's directory that declares a
// service. Files that do not parse are passed over: a fault in one service must
// not keep another from being deployed. Without a match it returns "", the names
// that the environment does have and, as [hcl.Diagnostics], what is wrong with
// the files that were passed over: one of them may have it.
func Locate(fsys fs.FS, environment, service string) (file string, known []string, err error) {
	var broken hcl.Diagnostics
	err = fs.WalkDir(fsys, environment, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if p != environment && strings.HasPrefix(d.Name(), ".") {
				return fs.SkipDir
			}
			return nil
		}
		if !d.Type().IsRegular() || !IsSource(p) {
			return nil
		}
		src, err := fs.ReadFile(fsys, p)
		if err != nil {
			return err
		}
		f, diags := parseForEdit(src, p)
		if diags.HasErrors() {
			broken = append(broken, inside(capped(diags), p, src)...)
			return nil
		}
		names := servicesIn(f)
		known = append(known, names...)
		if slices.Contains(names, service) {
			if file != "" {
				return fmt.Errorf("service %q is declared in both %s and %s: keep one of them", service, file, p)
			}
			file = p
		}
		return nil
	})
	sort.Strings(known)
	if err == nil && file == "" && len(broken) > 0 {
		err = broken
	}
	return file, known, err
}

// IsSource reports whether a path is one that the language reads.
func IsSource(p string) bool {
	base := path.Base(p)
	return !strings.HasPrefix(base, ".") && (strings.HasSuffix(base, ".hcl") || strings.HasSuffix(base, ".hcl.json"))
}

// check keeps anything out of a file that would not be read back as it was meant.
func (c Change) check() error {
	if !versionPattern.MatchString(c.Version) {
		return fmt.Errorf("version %q: a version is a letter or digit and then up to 127 of letters, digits and . + ~ _ -", c.Version)
	}
	if c.Digest != "" && len(c.Digests) > 0 {
		return fmt.Errorf("version %s has a digest and digests per platform: a release has one or the other", c.Version)
	}
	if !digestPattern.MatchString(c.Digest) && c.Digest != "" {
		return fmt.Errorf("digest %q: a digest is sha256: and 64 lower-case hex digits, or git: and a full commit hash", c.Digest)
	}
	for p, d := range c.Digests {
		if !platformPattern.MatchString(p) {
			return fmt.Errorf("platform %q: a platform is <os>/<arch> as Go spells them, such as linux/amd64", p)
		}
		if !digestPattern.MatchString(d) {
			return fmt.Errorf("digest %q of %s: a digest is sha256: and 64 lower-case hex digits, or git: and a full commit hash", d, p)
		}
	}
	if c.Attempt < 0 || c.Attempt > 1000000 {
		return fmt.Errorf("attempt %d: an attempt is a number from 1", c.Attempt)
	}
	return nil
}

// An edit replaces src[from:to] by text.
type edit struct {
	from, to int
	text     string
}

func splice(src []byte, edits []edit) []byte {
	slices.SortFunc(edits, func(a, b edit) int { return cmp.Or(a.from-b.from, a.to-b.to) })
	var out bytes.Buffer
	at := 0
	for _, e := range edits {
		out.Write(src[at:e.from])
		out.WriteString(e.text)
		at = e.to
	}
	out.Write(src[at:])
	return out.Bytes()
}

// releaseSite is a release block and where everything in it stands.
type releaseSite struct {
	src   []byte
	file  *hcl.File
	json  bool
	block *hcl.Block
	attrs hcl.Attributes
}

func parseForEdit(src []byte, filename string) (*hcl.File, hcl.Diagnostics) {
	if diags := guard(filename, src); diags.HasErrors() {
		return nil, diags
	}
	if isJSON(filename) {
		return hcljson.Parse(src, filename)
	}
	return hclsyntax.ParseConfig(src, filename, hcl.InitialPos)
}

func serviceBlocks(f *hcl.File) hcl.Blocks {
	content, _, _ := f.Body.PartialContent(&hcl.BodySchema{Blocks: []hcl.BlockHeaderSchema{{Type: "service", LabelNames: []string{"name"}}}})
	return content.Blocks
}

func findRelease(src []byte, filename, service string) (*releaseSite, hcl.Diagnostics) {
	f, diags := parseForEdit(src, filename)
	if diags.HasErrors() {
		return nil, diags
	}
	start := hcl.Range{Filename: filename, Start: hcl.InitialPos, End: hcl.InitialPos}
	var found *hcl.Block
	for _, b := range serviceBlocks(f) {
		if b.Labels[0] != service {
			continue
		}
		if found != nil {
			return nil, editFault(b.DefRange, "Service declared twice", "Service %q is also declared at %s:%d; keep one of them.", service, filename, found.DefRange.Start.Line)
		}
		found = b
	}
	if found == nil {
		return nil, editFault(start, "No such service", "%s declares no service %q.", filename, service)
	}
	content, _, diags := found.Body.PartialContent(&hcl.BodySchema{Blocks: []hcl.BlockHeaderSchema{{Type: "release"}}})
	if diags.HasErrors() {
		return nil, diags
	}
	switch len(content.Blocks) {
	case 0:
		return nil, editFault(found.DefRange, "No release block", "Service %q has no release block yet: write one by hand, with its first version.", service)
	case 1:
	default:
		return nil, editFault(content.Blocks[1].DefRange, "Two release blocks", "Service %q has more than one release block; keep one of them.", service)
	}
	site := &releaseSite{src: src, file: f, json: isJSON(filename), block: content.Blocks[0]}
	attrs, _, diags := site.block.Body.PartialContent(editableRelease)
	if diags.HasErrors() {
		return nil, diags
	}
	site.attrs = attrs.Attributes
	if site.attrs["version"] == nil {
		return nil, editFault(site.block.DefRange, "No version", "The release block of %q has no version to change.", service)
	}
	if d := site.attrs["digests"]; d != nil && site.attrs["digest"] != nil {
		return nil, editFault(d.NameRange, "Both digest and digests", "A release has one digest, or digests per platform; keep one of them.")
	}
	return site, nil
}

func editFault(at hcl.Range, summary, detail string, args ...any) hcl.Diagnostics {
	return hcl.Diagnostics{{Severity: hcl.DiagError, Summary: summary, Detail: fmt.Sprintf(detail, args...), Subject: &at}}
}

// releaseLiteral is an expression's value; a release holds literals only, because its
// bytes are what a pipeline may change and what people sign.
func releaseLiteral(e hcl.Expression) (string, hcl.Diagnostics) {
	v, diags := e.Value(nil)
	if diags.HasErrors() || !v.IsKnown() || v.IsNull() {
		return "", editFault(e.Range(), "Not a literal", "A release block holds plain values only; write the value itself here.")
	}
	switch v.Type() {
	case cty.String:
		return v.AsString(), nil
	case cty.Number:
		return v.AsBigFloat().Text('f', -1), nil
	}
	return "", editFault(e.Range(), "Not a plain value", "A quoted string or a number is needed here.")
}

func (s *releaseSite) read() (Change, hcl.Diagnostics) {
	var c Change
	var diags hcl.Diagnostics
	text := func(name string) string {
		a := s.attrs[name]
		if a == nil {
			return ""
		}
		v, d := releaseLiteral(a.Expr)
		diags = append(diags, d...)
		return v
	}
	c.Version, c.Digest = text("version"), text("digest")
	if t := text("attempt"); t != "" {
		n, err := strconv.Atoi(t)
		if err != nil {
			diags = append(diags, editFault(s.attrs["attempt"].Expr.Range(), "Not a number", "An attempt is a whole number from 1.")...)
		}
		c.Attempt = n
	}
	if a := s.attrs["digests"]; a != nil {
		pairs, d := digestPairs(a)
		diags = append(diags, d...)
		c.Digests = map[string]string{}
		for k, e := range pairs {
			v, d := releaseLiteral(e)
			diags = append(diags, d...)
			c.Digests[k] = v
		}
	}
	return c, diags
}

func digestPairs(a *hcl.Attribute) (map[string]hcl.Expression, hcl.Diagnostics) {
	kvs, diags := hcl.ExprMap(a.Expr)
	if diags.HasErrors() {
		return nil, diags
	}
	pairs := map[string]hcl.Expression{}
	for _, kv := range kvs {
		k, d := releaseLiteral(kv.Key)
		if d.HasErrors() {
			return nil, d
		}
		if pairs[k] != nil {
			return nil, editFault(kv.Key.Range(), "Platform written twice", "Platform %q already has a digest; keep one of them.", k)
		}
		pairs[k] = kv.Value
	}
	return pairs, nil
}
