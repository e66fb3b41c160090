package trust

import (
	"bytes"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// Limits of a commit.
const (
	maxCommit  = 4 << 20
	maxParents = 1024
	maxHeaders = 4096
)

// A Commit is what a commit's own bytes say.
type Commit struct {
	Tree      string
	Parents   []string
	Author    Ident
	Committer Ident
	Encoding  string // "" is UTF-8
	Message   string // all of it, subject included

	// Payload is what was signed: the object without its gpgsig header. It is
	// the whole object where nothing was.
	Payload   []byte
	Signature []byte // as the header has it, armoured; nil: not signed

	at int // where the header stood
}

// An Ident is who did something, and when, as the commit claims it.
type Ident struct {
	Name, Email string
	Time        time.Time
}

// armours are how the signatures begin that git writes: of OpenSSH, OpenPGP (two
// ways) and X.509.
var armours = []string{
	"-----BEGIN SSH SIGNATURE-----",
	"-----BEGIN PGP SIGNATURE-----",
	"-----BEGIN PGP MESSAGE-----",
	"-----BEGIN SIGNED MESSAGE-----",
}

var (
	headerName   = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9:._-]*$`)
	encodingName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._:()-]{0,63}$`)
	zonePattern  = regexp.MustCompile(`^[+-][0-9]{4}$`)
)

// known are the headers with a meaning; any other is carried along, under the
// signature, and believed nothing.
var known = []string{"tree", "parent", "author", "committer", "encoding", "mergetag", "gpgsig", "gpgsig-sha256"}

// ParseCommit reads a commit's own bytes, and takes less than git does: one way
// to write each header, in git's order, each once. What two readers could read
// as two commits is refused, because one of them verifies and the other acts.
func ParseCommit(raw []byte) (Commit, error) {
	p := &commitReader{raw: raw, rest: raw}
	if err := p.whole(); err != nil {
		return Commit{}, err
	}
	for _, step := range []func() error{p.tree, p.parents, p.people, p.others} {
		if err := step(); err != nil {
			return Commit{}, err
		}
	}
	p.c.Message = string(p.rest)
	if err := p.check(); err != nil {
		return Commit{}, err
	}
	return p.c, nil
}

// commitReader walks over the headers.
type commitReader struct {
	raw, rest []byte
	c         Commit
}

func (p *commitReader) whole() error {
	switch {
	case len(p.raw) > maxCommit:
		return fmt.Errorf("it has %d bytes, and %d is the limit", len(p.raw), maxCommit)
	case bytes.IndexByte(p.raw, 0) >= 0:
		return errors.New("it holds a NUL, behind which git shows nothing")
	case !bytes.Contains(p.raw, []byte("\n\n")):
		return errors.New("no empty line ends its headers")
	}
	return nil
}

// peek is the next header's name and value, without taking it; "" at the end.
func (p *commitReader) peek() (name, value string) {
	line, _, _ := bytes.Cut(p.rest, []byte("\n"))
	n, v, _ := strings.Cut(string(line), " ")
	return n, v
}

// take reads the next header with its continuation lines: they begin with a
// space, which is not part of the value.
func (p *commitReader) take() (value []byte, err error) {
	line, after, ok := bytes.Cut(p.rest, []byte("\n"))
	if !ok {
		return nil, errors.New("a header does not end")
	}
	name, first, ok := bytes.Cut(line, []byte(" "))
	if !ok {
		return nil, fmt.Errorf("its header %q has no value", clip(string(name)))
	}
	value = append(slices.Clip(first), '\n')
	for len(after) > 0 && after[0] == ' ' {
		more, next, ok := bytes.Cut(after[1:], []byte("\n"))
		if !ok {
			return nil, errors.New("a header does not end")
		}
		value = append(append(value, more...), '\n')
		after = next
	}
	p.rest = after
	return value, nil
}

// one reads a header of one line, which must come next.
func (p *commitReader) one(name string) (string, error) {
	if got, _ := p.peek(); got != name {
		if slices.Contains(known, got) {
			return "", fmt.Errorf("its header %s stands where %s must, or twice", got, name)
		}
		return "", fmt.Errorf("%q stands where its header %s must", clip(got), name)
	}
	v, err := p.take()
	if err != nil {
		return "", err
	}
	s := string(v[:len(v)-1])
	if i := strings.IndexFunc(s, unicode.IsControl); i >= 0 {
		return "", fmt.Errorf("its %s holds a control character or a second line", name)
	}
	return s, nil
}

func (p *commitReader) tree() (err error) {
	if p.c.Tree, err = p.one("tree"); err == nil && !isHash(p.c.Tree) {
		err = fmt.Errorf("its tree %q is no hash", clip(p.c.Tree))
	}
	return err
}

func (p *commitReader) parents() error {
	for {
		if name, _ := p.peek(); name != "parent" {
			return nil
		}
		h, err := p.one("parent")
		switch {
		case err != nil:
			return err
		case !isHash(h):
			return fmt.Errorf("its parent %q is no hash", clip(h))
		case slices.Contains(p.c.Parents, h):
			return fmt.Errorf("it names the parent %s twice", h)
		case len(p.c.Parents) == maxParents:
			return fmt.Errorf("it has more than %d parents", maxParents)
		}
		p.c.Parents = append(p.c.Parents, h)
	}
}

func (p *commitReader) people() error {
	for _, who := range []struct {
		name string
		into *Ident
	}{{"author", &p.c.Author}, {"committer", &p.c.Committer}} {
		s, err := p.one(who.name)
		if err != nil {
			return err
		}
		if *who.into, err = parseIdent(s); err != nil {
			return fmt.Errorf("its %s %w", who.name, err)
		}
	}
	return nil
}

// others reads the headers after the committer, up to the empty line.
func (p *commitReader) others() error {
	seen := map[string]bool{}
	for n := 0; ; n++ {
		name, _ := p.peek()
		switch {
		case name == "" && len(p.rest) > 0 && p.rest[0] == '\n':
			p.rest = p.rest[1:]
			if p.c.Signature == nil {
				p.c.Payload = p.raw
			}
			return nil
		case n == maxHeaders:
			return fmt.Errorf("it has more than %d headers", maxHeaders)
		case !headerName.MatchString(name):
			return fmt.Errorf("%q is no header", clip(name))
		case slices.Contains(known[:4], name):
			return fmt.Errorf("its header %s stands twice, or behind others", name)
		case seen[name] && name != "mergetag" && !strings.HasPrefix(name, "HG:"):
			return fmt.Errorf("its header %s stands twice", name)
		case strings.HasPrefix(name, "gpgsig") && name != "gpgsig":
			return fmt.Errorf("it is signed for another hash (%s), and only signatures over this object count", clip(name))
		case !slices.Contains(known, name) && slices.ContainsFunc(known, func(k string) bool { return strings.EqualFold(k, name) }):
			return fmt.Errorf("its header %q looks like another", name)
		}
		seen[name] = true
		if err := p.other(name); err != nil {
			return err
		}
	}
}

func (p *commitReader) other(name string) error {
	switch name {
	case "encoding":
		v, err := p.one(name)
		if err == nil && !encodingName.MatchString(v) {
			err = fmt.Errorf("its encoding %q is none", clip(v))
		}
		p.c.Encoding = v
		return err
	case "gpgsig":
		p.c.at = len(p.raw) - len(p.rest)
		v, err := p.take()
		if err != nil {
			return err
		}
		p.c.Signature = v
		p.c.Payload = slices.Concat(p.raw[:p.c.at], p.rest)
		return p.armour()
	}
	_, err := p.take() // a mergetag's content, or what another tool left: nobody's word
	return err
}

// armour holds the signature to a kind that git writes, and to be one only.
func (p *commitReader) armour() error {
	first, _, _ := strings.Cut(string(p.c.Signature), "\n")
	if !slices.Contains(armours, strings.TrimRight(first, "\r ")) {
		return errors.New("its gpgsig is no signature of a kind that git writes")
	}
	if strings.Count(string(p.c.Signature), "-----BEGIN ") != 1 {
		return errors.New("it holds two signatures in one header")
	}
	return nil
}

// check looks at what only the whole shows.
func (p *commitReader) check() error {
	if p.c.Encoding != "" && !strings.EqualFold(p.c.Encoding, "utf-8") && !strings.EqualFold(p.c.Encoding, "utf8") {
		return nil
	}
	for _, who := range []Ident{p.c.Author, p.c.Committer} {
		if !utf8.ValidString(who.Name + who.Email) {
			return errors.New("a name in it is not UTF-8, and it says no other encoding")
		}
	}
	return nil
}

// parseIdent reads "Name <mail> seconds zone", as git fsck has it.
func parseIdent(s string) (Ident, error) {
	name, rest, ok := strings.Cut(s, "<")
	mail, when, ok2 := strings.Cut(rest, ">")
	switch {
	case !ok || !ok2 || name != "" && !strings.HasSuffix(name, " ") || strings.ContainsAny(mail, "<\n"):
		return Ident{}, errors.New("is not written: name <email> seconds zone")
	case strings.ContainsAny(name, ">") || strings.ContainsAny(when, "<>"):
		return Ident{}, errors.New("has an angle bracket more")
	case strings.IndexFunc(name+mail, hides) >= 0:
		return Ident{}, errors.New("holds a character that hides or turns around others")
	}
	seconds, zone, ok := strings.Cut(strings.TrimPrefix(when, " "), " ")
	n, err := strconv.ParseInt(seconds, 10, 64)
	if !ok || !strings.HasPrefix(when, " ") || err != nil || n < 0 || n > 1<<40 || strconv.FormatInt(n, 10) != seconds || !zonePattern.MatchString(zone) {
		return Ident{}, fmt.Errorf("has no date that can be read: %q", clip(when))
	}
	hours, _ := strconv.Atoi(zone[:3])
	minutes, _ := strconv.Atoi(zone[:1] + zone[3:])
	at := time.Unix(n, 0).In(time.FixedZone("", hours*3600+minutes*60))
	return Ident{strings.TrimSpace(name), mail, at}, nil
}

// hides finds characters that make a line look like another one.
func hides(r rune) bool {
	return unicode.IsControl(r) || r >= 0x202a && r <= 0x202e || r >= 0x2066 && r <= 0x2069 || r == 0x2028 || r == 0x2029
}

func isHash(s string) bool { return len(s) == 40 && strings.Trim(s, "0123456789abcdef") == "" }

// clip makes what a stranger wrote fit to be shown in quotes.
func clip(s string) string {
	const most = 60
	if len(s) > most {
		s = strings.ToValidUTF8(s[:most], "") + "…"
	}
	return s
}

// String is "Ada <ada@acme.example>", without what a terminal would obey.
func (i Ident) String() string { return shown(i.Name) + " <" + shown(i.Email) + ">" }

// shown replaces what is not there to be read.
func shown(s string) string {
	s = strings.Map(func(r rune) rune {
		if hides(r) || r == utf8.RuneError {
			return '?'
		}
		return r
	}, strings.ToValidUTF8(s, "?"))
	return clip(s)
}

// Subject is the first line of the message, fit to be shown.
func (c Commit) Subject() string {
	first, _, _ := strings.Cut(strings.TrimLeft(c.Message, "\n"), "\n")
	return shown(strings.TrimSpace(first))
}

// Trailers are the values of the trailers of a name, in order: the lines
// "Name: value" of the message's last paragraph, if it is not the first.
func (c Commit) Trailers(name string) []string {
	text := strings.TrimRight(c.Message, "\n")
	i := strings.LastIndex(text, "\n\n")
	if i < 0 {
		return nil
	}
	var out []string
	for line := range strings.SplitSeq(text[i+2:], "\n") {
		if v, ok := strings.CutPrefix(line, name+": "); ok {
			out = append(out, strings.TrimSpace(v))
		}
	}
	return out
}

// Parents are a commit's parents as git reads them: the lines right behind its
// tree, and no others. An error says why git itself would read no commit; what
// was read until then comes with it. Whoever walks a history reads it so: two
// readers that saw other parents would judge other commits than are taken up.
func Parents(raw []byte) ([]string, error) {
	rest, ok := bytes.CutPrefix(raw, []byte("tree "))
	if !ok || len(rest) < 41 || !isHash(string(rest[:40])) || rest[40] != '\n' {
		return nil, errors.New("it does not begin with its tree")
	}
	var out []string
	for rest = rest[41:]; ; {
		line, ok := bytes.CutPrefix(rest, []byte("parent "))
		if !ok {
			return out, nil
		}
		if len(line) < 41 || !isHash(string(line[:40])) || line[40] != '\n' {
			return out, errors.New("a parent of it is no hash")
		}
		out, rest = append(out, string(line[:40])), line[41:]
	}
}

// parentsOf are those of a commit that judge finds malformed if it is.
func parentsOf(raw []byte) []string {
	out, _ := Parents(raw)
	return out
}
