package trust

// Names are the principals that roles name, without their patterns. Nobody gets
// to be one of them by a pattern: neither in a role, nor in allowed_signers,
// where whoever has left may have no line any more.
func (p Policy) Names() []string {
	var out []string
	for _, r := range p.Roles {
		for _, who := range r.Principals {
			if !isPattern(who) && !negated(who) {
				out = append(out, who)
			}
		}
	}
	return unique(out)
}
