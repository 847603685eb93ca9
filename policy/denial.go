package policy

// Denial answers for somebody whose permission is not in the document: the first rule that denies and
// matches refuses, whatever rules that allow stand before it, and else Allow is set. It fills in no more
// than Allow, Rule, Why and Message. A document that is not valid refuses.
func (d *Document) Denial(r Request) Decision {
	if d == nil || len(d.Rules) == 0 {
		return Decision{Allow: true}
	}
	matchers, err := d.matchers()
	if err != nil {
		return Decision{Why: "the rules are not valid: " + err.Error()}
	}
	var q query
	if why := q.init(&r); why != "" {
		return Decision{Why: why}
	}
	for i := range matchers {
		m := &matchers[i]
		if m.allow {
			continue
		}
		if kinds, _ := m.match(&q, q.want); kinds != 0 {
			return conclude(nil, m)
		}
	}
	return Decision{Allow: true}
}
