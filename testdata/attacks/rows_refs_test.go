package attacks

import (
	"os"
	"path/filepath"
	"strings"

	"drydock/reconcile/trust"
)

const ruleTree = "Every file is read from git objects: two readers must not see two trees."

// rowsOfRefs lie about what the branch is, and about what objects are.
func rowsOfRefs() []row {
	evil := func(r *Repo, base string) string { return bump(forge)(r, base) }
	good := bump(By(Bumper()))
	// write is a file of the served repository, "%" in it the head.
	write := func(name, content string) func(*stage) {
		return func(s *stage) {
			head, _ := os.ReadFile(filepath.Join(s.repo.Dir, "refs/heads/main"))
			s.repo.WriteFile(strings.ReplaceAll(name, "%", strings.TrimSpace(string(head))), strings.NewReplacer("%", strings.TrimSpace(string(head)), "@", s.base).Replace(content))
		}
	}
	// lies writes what other branches point at into a special file, and takes it
	// away when the row is over.
	at := func(ref string, what func(*Repo, string) string) func(*stage) {
		return func(s *stage) { s.repo.WriteFile(ref, what(s.repo, s.base)+"\n") }
	}
	tree := func(entries ...[4]string) func(*Repo, string) string {
		return func(r *Repo, base string) string {
			f := Files{}
			for path, content := range r.FilesOf(base) {
				f[path] = content
			}
			f[web] = Service("web", "1.2")
			for _, e := range entries {
				f["prod/"] += r.Entry(e[0], e[1], e[2], e[3])
			}
			return r.On(base, Files{web: Service("web", "1.2")}, OfTree(r.Tree(f)))
		}
	}
	none := func(*Repo, string) string { return strings.Repeat("1", 40) }
	return []row{
		{name: "a signed tag in the branch's place, of a commit nobody signed", item: itemTag, rule: ruleRoles, other: true, then: func(*stage) {},
			make: func(r *Repo, base string) string { return r.Tag(Alice(), "v1", "commit", evil(r, base)) }},
		{name: "a signed tag of the branch's name, and no branch", item: itemTag, rule: ruleRoles, other: true, make: good, then: func(s *stage) {
			s.repo.WriteFile("refs/tags/main", s.repo.Tag(Alice(), "main", "commit", evil(s.repo, s.base)))
			s.repo.Remove("refs/heads/main")
		}},
		{name: "a signed tag of the branch's name beside it", item: itemTag, rule: ruleRoles, runs: bumped, make: good, then: func(s *stage) {
			s.repo.WriteFile("refs/tags/main", s.repo.Tag(Alice(), "main", "commit", evil(s.repo, s.base)))
		}},
		{name: "a signed tag merged, of a commit nobody signed", item: itemTag, rule: ruleMerge, fault: trust.Unsigned, make: func(r *Repo, base string) string {
			side := r.On(base, Files{"prod/api.hcl": Service("api", "8")}, forge)
			tag := string(r.Raw(r.Tag(Alice(), "v1", "commit", side)))
			return r.Merge(good(r, base), side, nil, Before(func(s string) string { return WithHeader(s, "mergetag", tag) }))
		}},
		{name: "a signed tag merged, of a signed commit", item: itemTag, rule: ruleMerge, runs: map[string]string{"web": "1.2", "api": "8"}, make: func(r *Repo, base string) string {
			side := r.On(base, Files{"prod/api.hcl": Service("api", "8")}, By(Bumper()))
			tag := string(r.Raw(r.Tag(Guest(), "v1", "commit", side)))
			return r.Merge(good(r, base), side, nil, Unsigned("x@forge.example"), Before(func(s string) string { return WithHeader(s, "mergetag", tag) }))
		}},
		{name: "a replace ref to a signed commit", item: itemGrafts, rule: ruleRaw, fault: trust.Unsigned, says: []string{"is not signed"}, make: evil, then: func(s *stage) {
			write("refs/replace/%", s.repo.On(s.base, Files{web: Service("web", "1.2")}, By(Bumper())))(s)
		}},
		{name: "a replace ref from a signed commit", item: itemGrafts, rule: ruleRaw, runs: bumped, make: good, then: func(s *stage) {
			write("refs/replace/%", s.repo.On(s.base, Files{web: Service("web", "6.6")}, forge))(s)
		}},
		{name: "a replace ref to another tree", item: itemGrafts, rule: ruleRaw, runs: bumped, make: func(r *Repo, base string) string {
			c := good(r, base)
			r.WriteFile("refs/replace/"+r.Tree(r.FilesOf(c)), r.Tree(Files{web: Service("web", "6.6")}))
			return c
		}},
		{name: "a graft onto the accepted commit", item: itemGrafts, rule: ruleForward, other: true, make: func(r *Repo, _ string) string { return r.On("", Files{web: Service("web", "1.2")}) },
			then: write("info/grafts", "% @\n")},
		{name: "a graft that cuts the head off", item: itemGrafts, rule: ruleForward, runs: bumped, make: good, then: write("info/grafts", "%\n")},
		{name: "a shallow list that cuts the head off", item: itemGrafts, rule: ruleForward, runs: bumped, make: good, then: write("shallow", "%\n")},
		{name: "HEAD at another branch", rule: "The agent follows one branch", runs: bumped, make: good, then: func(s *stage) {
			s.repo.WriteFile("HEAD", "ref: refs/heads/evil\n")
			at("refs/heads/evil", evil)(s)
		}},
		{name: "HEAD at nothing that can be read", rule: "The agent follows one branch", runs: bumped, make: good, then: write("HEAD", "ref: ../../../../etc/passwd\n")},
		{name: "a branch in other letters", item: itemLooks, rule: "The agent follows one branch", runs: bumped, make: good, then: at("refs/heads/Main", evil)},
		{name: "an older packed ref of the same name", rule: "The agent follows one branch", runs: bumped, make: good, then: func(s *stage) {
			s.repo.WriteFile("packed-refs", "# pack-refs with: peeled fully-peeled sorted \n"+evil(s.repo, s.base)+" refs/heads/main\n")
		}},
		{name: "a branch that is a link to itself", rule: "Every external call has a deadline, every input a size limit.", other: true, make: good, then: write("refs/heads/main", "ref: refs/heads/main\n")},
		{name: "a branch that is a link out of the repository", rule: ruleRaw, other: true, make: good, then: write("refs/heads/main", "ref: ../../../../../etc/passwd\n")},
		{name: "a branch that is empty", rule: ruleRaw, other: true, make: good, then: write("refs/heads/main", "")},
		{name: "a branch at a commit that is not there", rule: ruleRaw, other: true, make: none},
		{name: "a branch at a tree", rule: ruleRaw, other: true, make: func(r *Repo, base string) string { return r.Tree(r.FilesOf(base)) }},
		{name: "a branch at a file", rule: ruleRaw, other: true, make: func(r *Repo, base string) string { return r.Object("blob", []byte("tree")) }},

		{name: "other bytes under the head's hash", rule: ruleRaw, other: true, then: func(*stage) {}, make: func(r *Repo, base string) string {
			c, other := good(r, base), r.On(base, Files{web: Service("web", "6.6")}, By(Bumper()))
			raw := r.Raw(other)
			r.Loose(c, append([]byte("commit "+itoa(len(raw))+"\x00"), raw...))
			return c
		}},
		{name: "other bytes under a tree's hash", rule: ruleRaw, other: true, then: func(*stage) {}, make: func(r *Repo, base string) string {
			c := good(r, base)
			raw := r.Raw(r.Tree(Files{"web.hcl": Service("web", "6.6")}))
			r.Loose(r.Tree(below(r.FilesOf(c), "prod")), append([]byte("tree "+itoa(len(raw))+"\x00"), raw...))
			return c
		}},
		{name: "other bytes under a file's hash", rule: ruleRaw, other: true, then: func(*stage) {}, make: func(r *Repo, base string) string {
			c := files(Files{web: Service("web", "1.9")}, By(Bumper()))(r, base)
			evil := strings.Replace(Service("web", "1.9"), "https://artifacts", "https://evilfacts", 1)
			r.Loose(r.Object("blob", []byte(Service("web", "1.9"))), []byte("blob "+itoa(len(evil))+"\x00"+evil))
			return c
		}},
		{name: "a file that is not there", rule: ruleRaw, other: true, then: func(*stage) {}, make: func(r *Repo, base string) string {
			c := files(Files{web: Service("web", "1.9")}, By(Bumper()))(r, base)
			r.Remove(r.Object("blob", []byte(Service("web", "1.9"))))
			return c
		}},
		{name: "a parent that is not there", rule: ruleRaw, other: true, then: func(*stage) {}, make: func(r *Repo, base string) string {
			side := r.On(base, nil, By(Operator()))
			c := r.On(side, Files{web: Service("web", "1.2")}, By(Bumper()))
			r.Remove(side)
			return c
		}},

		{name: "a file twice in its folder", rule: ruleTree, other: true, make: tree([4]string{"100644", "web.hcl", "blob", Service("web", "6.6")})},
		{name: "a file and a folder of one name", rule: ruleTree, other: true, make: tree([4]string{"40000", "web.hcl", "tree", ""})},
		{name: "a name with a slash", rule: ruleTree, other: true, make: tree([4]string{"100644", "../../evil.hcl", "blob", "x"})},
		{name: "a name of two dots", rule: ruleTree, other: true, make: tree([4]string{"40000", "..", "tree", ""})},
		{name: "a name that is empty", rule: ruleTree, other: true, make: tree([4]string{"100644", "", "blob", "x"})},
		{name: "a folder whose entries stand in another order", rule: ruleTree, runs: bumped, make: tree([4]string{"100644", "zz.hcl", "blob", ""})},
		{name: "a folder with one more file, in its place", rule: ruleTree, runs: bumped, make: tree([4]string{"100644", "aa.hcl", "blob", ""})},
		{name: "a mode that nobody knows", rule: ruleTree, other: true, make: tree([4]string{"170000", "aa.hcl", "blob", "x"})},
		{name: "a file that is a folder by its mode", rule: ruleTree, other: true, make: tree([4]string{"40000", "aa", "blob", "x"})},
		{name: "a folder that is a file by its mode", rule: ruleTree, other: true, make: tree([4]string{"100644", "aa.hcl", "tree", ""})},
	}
}

// below are the files of a folder.
func below(all Files, folder string) Files {
	out := Files{}
	for path, content := range all {
		if name, ok := strings.CutPrefix(path, folder+"/"); ok {
			out[name] = content
		}
	}
	return out
}
