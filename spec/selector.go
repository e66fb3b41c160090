package spec

// Selector is which hosts a thing is for: label to the values that will do. An
// empty one is every host.
type Selector map[string][]string

func selectorOf(v map[string]any) Selector {
	out := Selector{}
	for k, list := range v {
		out[k] = stringsOf(list)
	}
	return out
}

// Matches reports whether a host with these labels is meant.
func (s Selector) Matches(labels map[string]string) bool {
	for name, values := range s {
		have, ok := labels[name]
		if !ok || !contains(values, have) {
			return false
		}
	}
	return true
}

type labelRule struct {
	name   string
	values []string
}

// matches is [Selector.Matches] for ten thousand headers in a row.
func (h *header) matches(labels map[string]string) bool {
	for _, r := range h.rules {
		if have, ok := labels[r.name]; !ok || !contains(r.values, have) {
			return false
		}
	}
	return true
}

// Overlaps reports whether some host could match both.
func (s Selector) Overlaps(other Selector) bool {
	for name, values := range s {
		theirs, ok := other[name]
		if !ok {
			continue
		}
		common := false
		for _, v := range values {
			common = common || contains(theirs, v)
		}
		if !common {
			return false
		}
	}
	return true
}

func contains(list []string, s string) bool {
	for _, el := range list {
		if el == s {
			return true
		}
	}
	return false
}
