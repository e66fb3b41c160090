package sql

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"drydock/reconcile"
)

// applied is a migration that the database says was applied.
type applied struct {
	version int64

	// recorded is false for one that was applied by something else than this
	// driver: nothing more is known of it then, and it is taken as it stands.
	recorded   bool
	name       string
	sum        string
	compatible bool   // as declared by the release that applied it
	service    string // "web 1.4.2"
}

// decide says which files are to be applied, in order, or why none may be. It
// is the whole decision, and looks at nothing but its arguments: files are in
// order of their versions, have is in any.
func decide(files []file, have []applied) ([]file, error) {
	is := make(map[int64]applied, len(have))
	var newest int64
	for _, a := range have {
		is[a.version] = a
		newest = max(newest, a.version)
	}
	var pending, late []file
	own := make(map[int64]bool, len(files))
	for _, f := range files {
		own[f.version] = true
		a, done := is[f.version]
		switch {
		case done && a.recorded && a.sum != f.sum:
			return nil, reconcile.ReleaseFault(fmt.Errorf("migrate sql: %s was edited after %s had applied it%s", f.name, a.service, formerly(a, f)),
				"Put the old text back, and write the change as a new migration.")
		case !done && f.version < newest:
			late = append(late, f)
		case !done:
			pending = append(pending, f)
		}
	}
	if strange := strangers(files, have, own); len(strange) > 0 {
		return nil, reconcile.ReleaseFault(fmt.Errorf("migrate sql: the schema is newer than the release: %s, which the release does not have and which nobody declared compatible", names(strange)),
			"Deploy a release that has these migrations; to go back behind them, write a new migration that undoes them.")
	}
	if len(late) > 0 {
		return nil, reconcile.ReleaseFault(fmt.Errorf("migrate sql: %s came late: version %d is applied already", fileNames(late), newest),
			"Give each a version above it, and release it anew.")
	}
	return pending, nil
}

// strangers are applied migrations that the release does not know, and that it
// is not known to live with. Versions below its first file are history that
// somebody squashed.
func strangers(files []file, have []applied, own map[int64]bool) (strange []applied) {
	for _, a := range have {
		squashed := len(files) > 0 && a.version < files[0].version
		if !own[a.version] && !squashed && !(a.recorded && a.compatible) {
			strange = append(strange, a)
		}
	}
	slices.SortFunc(strange, func(a, b applied) int { return cmp.Compare(a.version, b.version) })
	return strange
}

func formerly(a applied, f file) string {
	if a.name == "" || a.name == f.name {
		return ""
	}
	return " as " + a.name
}

func names(of []applied) string {
	var list []string
	for _, a := range of {
		if a.recorded {
			list = append(list, fmt.Sprintf("%s (by %s)", a.name, a.service))
		} else {
			list = append(list, fmt.Sprintf("version %d", a.version))
		}
	}
	return some(list) + " " + plural(len(of), "is", "are") + " applied"
}

func fileNames(of []file) string {
	var list []string
	for _, f := range of {
		list = append(list, f.name)
	}
	return some(list)
}

// list is what a plan says of the pending migrations.
func list(pending []script) string {
	if len(pending) == 0 {
		return "nothing pending"
	}
	var each []string
	for _, s := range pending {
		if s.atomic {
			each = append(each, s.name)
		} else {
			each = append(each, s.name+" (no transaction)")
		}
	}
	return fmt.Sprintf("%d pending: %s", len(pending), some(each))
}

// some is a list for people, however long it is.
func some(list []string) string {
	const most = 10
	if n := len(list) - most; n > 0 {
		list = append(slices.Clone(list[:most]), fmt.Sprintf("and %d more", n))
	}
	return strings.Join(list, ", ")
}

func plural(n int, one, many string) string {
	if n == 1 {
		return one
	}
	return many
}
