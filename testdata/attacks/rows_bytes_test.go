package attacks

import (
	"strings"
	"time"

	"drydock/reconcile/trust"
)

// rowsOfBytes are commits that two readers could read as two commits. All are
// signed over just the bytes that stand there, by somebody who may.
func rowsOfBytes() []row {
	mal := trust.Malformed
	// odd is a bump whose bytes were changed before they were signed.
	odd := func(f func(string) string) func(*Repo, string) string { return bump(By(Bumper()), Before(f)) }
	header := func(line string) func(string) string { return Instead("\n\n", "\n"+line+"\n\n") }
	date := func(t time.Time) func(*Repo, string) string { return bump(By(Bumper()), Dated(t)) }
	return []row{
		{name: "two trees", item: itemHeaders, rule: ruleRaw, other: true, make: func(r *Repo, base string) string {
			other := r.Tree(Files{"prod/web.hcl": Service("web", "6.6")})
			return odd(Instead("\nparent ", "\ntree "+other+"\nparent "))(r, base)
		}},
		{name: "two trees, one behind the people", item: itemHeaders, rule: ruleRaw, fault: mal, says: []string{"tree stands twice"}, make: func(r *Repo, base string) string {
			return odd(header("tree "+r.Tree(Files{"prod/web.hcl": Service("web", "6.6")})))(r, base)
		}},
		{name: "a parent behind the people", item: itemHeaders, rule: ruleForward, fault: mal, says: []string{"parent stands twice, or behind"}, make: func(r *Repo, base string) string {
			return odd(header("parent "+r.parents[base][0]))(r, base)
		}},
		{name: "the only parent behind the people", item: itemHeaders, rule: ruleForward, other: true, make: func(r *Repo, base string) string {
			return odd(func(s string) string {
				return header("parent " + base)(strings.Replace(s, "parent "+base+"\n", "", 1))
			})(r, base)
		}},
		{name: "a parent twice", item: itemHeaders, rule: ruleRaw, fault: mal, says: []string{"the parent "}, make: func(r *Repo, base string) string {
			return odd(Instead("\nauthor", "\nparent "+base+"\nauthor"))(r, base)
		}},
		{name: "two authors", item: itemHeaders, rule: ruleRaw, fault: mal, says: []string{"author stands where"}, make: odd(Instead("\ncommitter", "\nauthor alice <alice@acme.example> 1 +0000\ncommitter"))},
		{name: "two committers", item: itemHeaders, rule: ruleClock, fault: mal, says: []string{"committer stands"}, make: odd(Instead("\n\n", "\ncommitter alice <alice@acme.example> 1 +0000\n\n"))},
		{name: "no committer", item: itemHeaders, rule: ruleRaw, other: true, says: []string{"it has no committer with a date"}, make: odd(func(s string) string {
			before, rest, _ := strings.Cut(s, "\ncommitter ")
			_, after, _ := strings.Cut(rest, "\n")
			return before + "\n" + after
		})},
		{name: "the committer before the author", item: itemHeaders, rule: ruleRaw, fault: mal, says: []string{"committer stands where author must"}, make: odd(func(s string) string {
			lines := strings.SplitN(s, "\n", 5)
			lines[2], lines[3] = lines[3], lines[2]
			return strings.Join(lines, "\n")
		})},
		{name: "two encodings", item: itemHeaders, rule: ruleRaw, fault: mal, says: []string{"encoding stands twice"}, make: odd(header("encoding UTF-8\nencoding ISO-8859-1"))},
		{name: "a header in other letters", item: itemHeaders, rule: ruleRaw, fault: mal, says: []string{"looks like another"}, make: odd(header("Parent " + strings.Repeat("0", 40)))},
		{name: "a header without a value", item: itemHeaders, rule: ruleRaw, fault: mal, says: []string{"has no value"}, make: odd(header("x-build"))},
		{name: "a header that goes on into the tree's line", item: itemHeaders, rule: ruleRaw, other: true, make: odd(Instead("\nparent ", "\n parent "))},
		{name: "a header nobody knows", item: itemHeaders, rule: ruleRaw, make: odd(header("x-build 17")), runs: bumped},
		{name: "what hg-git leaves, twice", item: itemHeaders, rule: ruleRaw, make: odd(header("HG:rename a:b\nHG:rename c:d")), runs: bumped},
		{name: "an encoding", item: itemHeaders, rule: ruleRaw, make: bump(By(Bumper()), Says("Gr\xfc\xdfe\n"), Before(header("encoding ISO-8859-1"))), runs: bumped},
		{name: "an encoding that is a command", item: itemHeaders, rule: ruleRaw, fault: mal, says: []string{"encoding"}, make: odd(header("encoding $(id)"))},

		{name: "a NUL in the message", item: itemControl, rule: ruleRaw, fault: mal, says: []string{"NUL"}, make: bump(By(Bumper()), Says("Nice\x00\n\nDrydock-Vouch: all\n"))},
		{name: "a NUL in a name", item: itemControl, rule: ruleRaw, fault: mal, says: []string{"NUL"}, make: odd(Instead("bumper <", "bum\x00per <"))},
		{name: "a CR in a name", item: itemControl, rule: ruleRaw, fault: mal, says: []string{"author holds a control character"}, make: odd(Instead("author bumper <", "author alice <alice@acme.example> 1 +0000\rbumper <"))},
		{name: "a CR behind the tree", item: itemControl, rule: ruleRaw, other: true, make: odd(Instead("\nparent", "\r\nparent"))},
		{name: "CR line ends in all headers", item: itemControl, rule: ruleRaw, other: true, make: odd(func(s string) string {
			head, message, _ := strings.Cut(s, "\n\n")
			return strings.ReplaceAll(head, "\n", "\r\n") + "\r\n\n" + message
		})},
		{name: "an escape sequence in a name", item: itemControl, rule: ruleRaw, fault: mal, says: []string{"control character"}, make: odd(Instead("author bumper", "author \x1b[2Kalice"))},
		{name: "letters that turn around in a name", item: itemControl, rule: ruleRaw, fault: mal, says: []string{"hides or turns around"}, make: odd(Instead("author bumper", "author \u202eecila"))},
		{name: "an angle bracket more in a name", item: itemControl, rule: ruleRaw, fault: mal, says: []string{"angle bracket"}, make: odd(Instead("author bumper <", "author alice> <"))},
		{name: "two addresses", item: itemControl, rule: ruleRaw, fault: mal, says: []string{"author"}, make: odd(Instead("author bumper <", "author alice <alice@acme.example> bumper <"))},
		{name: "bytes that are no letters in a name", item: itemControl, rule: ruleRaw, fault: mal, says: []string{"not UTF-8"}, make: odd(Instead("author bumper", "author b\xffmper"))},
		{name: "a name of another language", item: itemControl, rule: ruleRaw, make: odd(Instead("author bumper", "author Бампер Ö")), runs: bumped},
		{name: "an empty name", item: itemControl, rule: ruleRaw, make: odd(Instead("author bumper <", "author <")), runs: bumped},
		{name: "a message with CR line ends", item: itemControl, rule: ruleRaw, make: bump(By(Bumper()), Says("A change\r\n\r\nmore\r\n")), runs: bumped},
		{name: "an escape sequence in the message", item: itemControl, rule: ruleRaw, make: bump(By(Bumper()), Says("A change\x1b[2K\n")), runs: bumped},
		{name: "no message", item: itemControl, rule: ruleRaw, make: bump(By(Bumper()), Says("")), runs: bumped},
		{name: "an escape sequence in the subject of one that is refused", item: itemControl, rule: "Messages hold nothing that a terminal obeys", fault: trust.Unsigned,
			says: []string{`("?[2J?]0;owned?hello")`}, make: bump(Unsigned("x@acme.example"), Says("\x1b[2J\x1b]0;owned\ahello\n"))},

		{name: "no date", item: item2099, rule: ruleClock, other: true, says: []string{"it has no committer with a date"}, make: odd(func(s string) string {
			before, _, _ := strings.Cut(s, "\ncommitter ")
			return before + "\ncommitter bumper <bumper@acme.example>\n\nx\n"
		})},
		{name: "a date with a plus", item: item2099, rule: ruleClock, fault: mal, says: []string{"date"}, make: odd(func(s string) string { return strings.ReplaceAll(s, "> 1", "> +1") })},
		{name: "a date that is too large for a number", item: item2099, rule: ruleClock, other: true, make: odd(func(s string) string {
			return strings.ReplaceAll(s, "> 1", "> 999999999991")
		})},
		{name: "dated 2099", item: item2099, rule: ruleClock, other: true, says: []string{"2099-01-01T00:00:00Z"}, make: date(time.Date(2099, 1, 1, 0, 0, 0, 0, time.UTC))},
		{name: "dated 2099, under one of today", item: item2099, rule: ruleClock, fault: trust.Ahead, says: []string{"is dated 2099-01-01T00:00:00Z"}, make: func(r *Repo, base string) string {
			return r.On(date(time.Date(2099, 1, 1, 0, 0, 0, 0, time.UTC))(r, base), nil, By(Operator()))
		}},
		{name: "dated in eleven minutes", item: item2099, rule: ruleClock, other: true, says: []string{"2026-11-22T12:11:00Z"}, make: date(Noon().Add(11 * time.Minute))},
		{name: "dated in nine minutes", item: item2099, rule: ruleClock, make: date(Noon().Add(9 * time.Minute)), runs: bumped},
		{name: "dated 1970", item: item2099, rule: ruleClock, make: date(time.Unix(0, 0)), runs: bumped},
		{name: "written in 2099, and committed today", item: item2099, rule: ruleClock, make: odd(func(s string) string {
			line, rest, _ := strings.Cut(s, "\ncommitter ")
			return line[:strings.LastIndex(line, "> ")] + "> 4070908800 +0000\ncommitter " + rest
		}), runs: bumped},
	}
}
