package sshsig

import (
	"fmt"
	"strings"
	"time"
)

// stamp is YYYYMMDDHHMMSS.
const stamp = "20060102150405"

// options reads the options field: keywords in any case, separated by commas,
// values in double quotes.
func (e *Entry) options(s string) error {
	seen := map[string]bool{}
	for {
		keyword, value, rest, err := option(s)
		if err != nil {
			return err
		}
		if seen[keyword] {
			return fmt.Errorf("the option %s stands twice; keep one", keyword)
		}
		seen[keyword] = true
		if err := e.option(keyword, value); err != nil {
			return err
		}
		if rest == "" {
			break
		}
		if s = rest[1:]; rest[0] != ',' || s == "" {
			return fmt.Errorf("after the option %s stands %q; separate options by single commas, without spaces", keyword, rest)
		}
	}
	if !e.After.IsZero() && !e.Before.IsZero() && !e.After.Before(e.Before) {
		return fmt.Errorf("valid-before is not later than valid-after, so the key is never valid; correct one of them, or remove the line")
	}
	return nil
}

// option cuts the first option off. The value is nil for one without.
func option(s string) (keyword string, value *string, rest string, err error) {
	n := strings.IndexAny(s, "=,")
	if n < 0 {
		return strings.ToLower(s), nil, "", nil
	}
	keyword = strings.ToLower(s[:n])
	if s[n] == ',' {
		return keyword, nil, s[n:], nil
	}
	v, ok := strings.CutPrefix(s[n+1:], `"`)
	if !ok {
		return "", nil, "", fmt.Errorf("the value of %s is not in quotes; write %s=\"…\"", keyword, keyword)
	}
	var b strings.Builder
	for i := 0; i < len(v); i++ {
		switch {
		case v[i] == '"':
			out := b.String()
			return keyword, &out, v[i+1:], nil
		case v[i] == '\\' && i+1 < len(v) && v[i+1] == '"':
			i++
		}
		b.WriteByte(v[i])
	}
	return "", nil, "", fmt.Errorf("the value of %s has no closing quote; add it", keyword)
}

// option takes one option up. One that is not known refuses the line: it may
// restrict the key.
func (e *Entry) option(keyword string, value *string) (err error) {
	switch keyword {
	case "namespaces", "valid-after", "valid-before":
		if value == nil {
			return fmt.Errorf("%s has no value; write %s=\"…\"", keyword, keyword)
		}
	}
	switch keyword {
	case "namespaces":
		e.Namespaces, err = parsePatterns(*value, "namespace")
	case "valid-after":
		e.After, err = parseTime(keyword, *value)
	case "valid-before":
		e.Before, err = parseTime(keyword, *value)
	case "cert-authority":
		err = fmt.Errorf("cert-authority is not supported: certificates are not accepted; list each person's own key")
	default:
		err = fmt.Errorf("%q is neither an option that is known (namespaces, valid-after, valid-before) nor a key's type; correct or remove it, since it may be meant to restrict the key", keyword)
	}
	return err
}

// parseTime reads YYYYMMDDZ, YYYYMMDDHHMMZ and YYYYMMDDHHMMSSZ. OpenSSH takes
// a time without Z as local; hosts in two zones would then disagree.
func parseTime(keyword, s string) (time.Time, error) {
	digits, utc := strings.CutSuffix(s, "Z")
	known := len(digits) == 8 || len(digits) == 12 || len(digits) == len(stamp)
	for i := range len(digits) {
		known = known && '0' <= digits[i] && digits[i] <= '9'
	}
	if !known {
		return time.Time{}, fmt.Errorf("%s is %q; write it in UTC as YYYYMMDDZ, YYYYMMDDHHMMZ or YYYYMMDDHHMMSSZ", keyword, s)
	}
	if !utc {
		return time.Time{}, fmt.Errorf("%s is %q, which is another moment in each host's time zone; write it in UTC, with a Z at its end", keyword, s)
	}
	t, err := time.Parse(stamp[:len(digits)], digits)
	if err != nil || t.Unix() <= 0 {
		return time.Time{}, fmt.Errorf("%s is %q, and there is no such date since 1970; correct it", keyword, s)
	}
	return t, nil
}
