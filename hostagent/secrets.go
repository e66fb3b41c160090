package hostagent

import (
	"cmp"
	"encoding/base64"
	"encoding/json"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
)

// Secrets are the values of credentials that this process has read, so that
// what it prints, logs, answers and writes down can do without them. It is the
// last net, not the rule: nothing that reads a credential shows it. But a server
// or a command may repeat what it was sent.
//
// One value lives as long as the process. A nil *Secrets knows nothing.
type Secrets struct {
	mu     sync.Mutex
	values map[string][]string // by credential, the newest last
	with   atomic.Pointer[strings.Replacer]
}

const (
	// leastSecret is the shortest text that is taken out: shorter ones are
	// found in too many words that are none.
	leastSecret = 6
	// lastValues is how many values of one credential are known at a time: old
	// ones may still be on their way into a log.
	lastValues = 4
)

// Learn makes a credential's value one that Scrub takes out.
func (s *Secrets) Learn(name, value string) {
	if s == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	known := s.values[name]
	if n := len(known); n > 0 && known[n-1] == value {
		return
	}
	if s.values == nil {
		s.values = map[string][]string{}
	}
	known = append(slices.DeleteFunc(known, func(v string) bool { return v == value }), value)
	s.values[name] = known[max(0, len(known)-lastValues):]
	s.with.Store(replacer(s.values))
}

// Scrub is text with each value that is known, also within a URL, in base64 or
// in JSON, replaced by [credential NAME].
func (s *Secrets) Scrub(text string) string {
	if s == nil {
		return text
	}
	r := s.with.Load()
	if r == nil {
		return text
	}
	return r.Replace(text)
}

// String shows nothing of it.
func (s *Secrets) String() string { return "secrets" }

// GoString shows nothing of it either.
func (s *Secrets) GoString() string { return "secrets" }

func replacer(values map[string][]string) *strings.Replacer {
	names := map[string]string{} // by text
	for name, all := range values {
		for _, v := range all {
			for _, secret := range within(v) {
				for _, text := range spellings(secret) {
					if len(text) >= leastSecret {
						names[text] = name
					}
				}
			}
		}
	}
	texts := make([]string, 0, len(names))
	for t := range names {
		texts = append(texts, t)
	}
	// Of two at the same place the longer one wins: nothing of it may stay.
	slices.SortFunc(texts, func(a, b string) int { return cmp.Or(len(b)-len(a), strings.Compare(a, b)) })
	pairs := make([]string, 0, 2*len(texts))
	for _, t := range texts {
		pairs = append(pairs, t, "[credential "+names[t]+"]")
	}
	return strings.NewReplacer(pairs...)
}

var (
	passwordWord = regexp.MustCompile(`(?i)(?:password|passwd|pwd|token|secret)\s*=\s*(?:'([^']*)'|([^\s;&']+))`)
	userAt       = regexp.MustCompile(`^[^/\s]*?:(.*)@`) // user:password@tcp(host)/database
)

// within are the secrets in a credential's value: itself, and what drivers and
// servers show without the rest of it: the token of an Authorization header,
// the password of a database's URL, the lines of a key.
func within(value string) []string {
	all := []string{value}
	if f := strings.Fields(value); len(f) == 2 {
		all = append(all, f[1])
		if plain, err := base64.StdEncoding.DecodeString(f[1]); err == nil && strings.EqualFold(f[0], "basic") {
			_, password, _ := strings.Cut(string(plain), ":")
			all = append(all, string(plain), password)
		}
	}
	if u, err := url.Parse(value); err == nil && u.User != nil {
		if password, has := u.User.Password(); has {
			all = append(all, password)
		}
		_, written, _ := strings.Cut(u.User.String(), ":")
		all = append(all, written)
	} else if m := userAt.FindStringSubmatch(value); m != nil {
		all = append(all, m[1])
	}
	for _, m := range passwordWord.FindAllStringSubmatch(value, -1) {
		all = append(all, m[1]+m[2])
	}
	if lines := strings.Split(value, "\n"); len(lines) > 1 {
		for _, l := range lines {
			if l = strings.TrimSpace(l); len(l) >= 16 && !strings.HasPrefix(l, "-----") {
				all = append(all, l)
			}
		}
	}
	return all
}

// spellings are the forms in which a text is found inside others.
func spellings(text string) []string {
	quoted, _ := json.Marshal(text)
	return append(inBase64(text),
		text, url.QueryEscape(text), url.PathEscape(text), url.UserPassword("", text).String()[1:],
		string(quoted[1:len(quoted)-1]), strings.ReplaceAll(text, "'", `\'`),
		base64.StdEncoding.EncodeToString([]byte(text)), base64.RawStdEncoding.EncodeToString([]byte(text)),
		base64.URLEncoding.EncodeToString([]byte(text)), base64.RawURLEncoding.EncodeToString([]byte(text)),
	)
}

// inBase64 is what of a text stands in the base64 of a longer one, such as
// user:password: without the letters that it shares with its neighbours, and in
// three forms, by where in a group of three bytes it begins.
func inBase64(text string) (all []string) {
	for before := range 3 {
		bytes := append(make([]byte, before), text...)
		from, to := (before*8+5)/6, len(bytes)*8/6
		if from >= to {
			continue
		}
		all = append(all, base64.RawStdEncoding.EncodeToString(bytes)[from:to], base64.RawURLEncoding.EncodeToString(bytes)[from:to])
	}
	return all
}
