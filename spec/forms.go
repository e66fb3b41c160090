package spec

import (
	"fmt"
	"net/url"
	"path"
	"regexp"
	"strings"
	"time"
	"unicode"
)

// Patterns of what people write.
var (
	versionPattern    = word{regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9.+~_-]*$`), 128}
	digestPattern     = regexp.MustCompile(`^(sha256:[0-9a-f]{64}|git:([0-9a-f]{40}|[0-9a-f]{64}))$`)
	platformPattern   = regexp.MustCompile(`^[a-z0-9]+/[a-z0-9]+$`)
	namePattern       = word{regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]*$`), 64}
	haproxyPattern    = word{regexp.MustCompile(`^[A-Za-z0-9_.:-]+$`), 256}
	unitPattern       = word{regexp.MustCompile(`^[A-Za-z0-9:_.\\-]+(@[A-Za-z0-9:_.\\-]+)?\.(service|socket|target|timer|path|mount|automount|swap|slice|scope|device)$`), 255}
	debianPattern     = word{regexp.MustCompile(`^[a-z0-9][a-z0-9+.-]+$`), 128}
	credentialPattern = word{regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]*$`), 128}
	clockPattern      = regexp.MustCompile(`^([01][0-9]|2[0-3]):[0-5][0-9]$`)
)

// word is a pattern with a longest length beside it: {0,127} in the pattern
// would be compiled into 127 copies, by every start of every command.
type word struct {
	pattern *regexp.Regexp
	most    int // bytes
}

// MatchString reports whether s is such a word.
func (w word) MatchString(s string) bool { return len(s) <= w.most && w.pattern.MatchString(s) }

func checkVersion(v string) string {
	if !versionPattern.MatchString(v) {
		return fmt.Sprintf("a version begins with a letter or digit, and goes on with letters, digits and . + ~ _ - up to 128 in all; %q does not", v)
	}
	return ""
}

func checkDigest(v string) string {
	if !digestPattern.MatchString(v) {
		return fmt.Sprintf(`a digest is "sha256:" and 64 hexadecimal digits in lower case, or "git:" and a full commit; %q is not`, v)
	}
	return ""
}

// hides reports whether a text has what a terminal obeys, or what turns a line
// around: people read it, and whoever may freeze must not write what they see.
func hides(s string) bool {
	return strings.ContainsFunc(s, func(r rune) bool { return unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r) })
}

// oneLine is text for people.
func oneLine() *form {
	return &form{"a line of text", func(s string) string {
		if hides(s) {
			return "write one line, of characters that can be seen"
		}
		return ""
	}}
}

func absolutePath() *form {
	return &form{"absolute path", func(s string) string {
		switch {
		case !strings.HasPrefix(s, "/"):
			return "the path must be absolute, as /srv/web is"
		case strings.ContainsRune(s, 0):
			return "a path holds no NUL"
		case path.Clean(s) != s:
			return fmt.Sprintf("write the path without detours: %q", path.Clean(s))
		case s == "/":
			return "the root directory is nobody's own"
		}
		return ""
	}}
}

// relativePath is a path below some directory that does not lead out of it.
func relativePath(below string) *form {
	return &form{"path below " + below, func(s string) string {
		if s == "" || strings.HasPrefix(s, "/") || s == ".." || strings.HasPrefix(path.Clean(s), "..") || strings.ContainsRune(s, 0) {
			return "the path must lead to something below " + below
		}
		return ""
	}}
}

func fileName() *form {
	return &form{"file name", func(s string) string {
		if s == "" || s == "." || s == ".." || strings.ContainsAny(s, "/\x00") {
			return "a plain file name is needed, without a slash"
		}
		return ""
	}}
}

func webURL() *form { return urlOf("http", "https") }

func urlOf(schemes ...string) *form {
	return &form{"URL: " + strings.Join(schemes, ", "), func(s string) string {
		u, err := url.Parse(s)
		if err != nil {
			return "this is not a URL"
		}
		for _, want := range schemes {
			if u.Scheme != want {
				continue
			}
			if u.User != nil {
				return "a URL holds no name and password here: everybody can read this repository. Use credential(name)"
			}
			if (u.Host == "") == (want != "file" && want != "unix") {
				return "this URL names no host"
			}
			return ""
		}
		return "the URL must begin with " + strings.Join(schemes, ":// or ") + "://"
	}}
}

// gitURL is what git takes for a repository elsewhere.
func gitURL() *form {
	return &form{"git URL or path", func(s string) string {
		scheme, rest, ok := strings.Cut(s, "://")
		switch {
		case strings.HasPrefix(s, "/") && path.Clean(s) != "/":
			return ""
		case !ok && !strings.HasPrefix(s, "-"):
			if host, p, scp := strings.Cut(s, ":"); scp && host != "" && p != "" && !strings.Contains(host, "/") {
				return "" // user@host:path
			}
		case scheme == "https" || scheme == "http" || scheme == "ssh" || scheme == "git" || scheme == "file":
			u, err := url.Parse(s)
			if err != nil {
				return "this is not a URL"
			}
			if _, password := u.User.Password(); password {
				return "a URL holds no password here: everybody can read this repository. The host's own source.token serves on the same host"
			}
			if (u.Host == "") != (scheme == "file") || strings.Trim(rest, "/") == "" {
				return "this URL names no host, or no path (file:///path)"
			}
			return ""
		}
		return "a repository is https://, ssh://, git://, file://, user@host:path, or an absolute path"
	}}
}

func hostPort() *form {
	return &form{"host:port", func(s string) string {
		i := strings.LastIndexByte(s, ':')
		if i < 0 || i == len(s)-1 {
			return "an address is host:port, as 127.0.0.1:8080 is"
		}
		return ""
	}}
}

func notEmpty() *form {
	return &form{"not empty", func(s string) string {
		if s == "" {
			return "it may not be empty"
		}
		return ""
	}}
}

func pattern(says string, re word) *form {
	return &form{says, func(s string) string {
		if !re.MatchString(s) {
			return fmt.Sprintf("%q is not %s", s, says)
		}
		return ""
	}}
}

// haproxyName keeps what would end a command of the runtime API out of it.
func haproxyName() *form { return pattern("a name that HAProxy knows", haproxyPattern) }

// unitName is a name as systemd takes it: no abbreviation, pattern or template.
func unitName() *form { return pattern("the name of a unit, such as web.service", unitPattern) }

func debianName() *form { return pattern("the name of a Debian package", debianPattern) }

func version() *form { return &form{"version", checkVersion} }
func digest() *form  { return &form{"digest", checkDigest} }

func clock() *form {
	return &form{"time of day, HH:MM", func(s string) string {
		if s != "24:00" && !clockPattern.MatchString(s) {
			return fmt.Sprintf(`a time of day is "00:00" to "24:00", with two digits each; %q is not`, s)
		}
		return ""
	}}
}

func zone() *form {
	return &form{"IANA time zone", func(s string) string {
		if s == "" || s == "Local" {
			return `name a time zone, such as "Europe/Berlin" or "UTC"`
		}
		if _, err := time.LoadLocation(s); err != nil {
			return fmt.Sprintf("there is no time zone %q; names look like \"Europe/Berlin\"", s)
		}
		return ""
	}}
}

func principal() *form {
	return &form{"principal, as in allowed_signers", func(s string) string {
		if s == "" || strings.ContainsAny(s, " \t\r\n,\"*?!") {
			return fmt.Sprintf("a principal is one name such as alice@acme.example; %q is not", s)
		}
		return ""
	}}
}
