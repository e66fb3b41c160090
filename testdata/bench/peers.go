package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// A peer is another way to the same state. Each has a clone of its own, pulls
// it, and leaves release directories and a link `current` as Drydock does.
type peer struct {
	name    string
	needs   string // program
	install string // Debian package
	script  string // sh; $ROOT is the yard, $REPO the clone
	env     []string
}

func (y *yard) all() []peer {
	return []peer{
		{name: "shell", needs: "sh", script: `git -C "$REPO" pull -q && exec sh "$REPO/shell.sh"`},
		{name: "cfengine", needs: "cf-agent", install: "cfengine3", script: `git -C "$REPO" pull -q && exec cf-agent -KI ${ASKED:+-Dasked} -f "$REPO/promises.cf"`,
			env: []string{"CFENGINE_TEST_OVERRIDE_WORKDIR=" + y.path("cfengine")}},
		{name: "puppet", needs: "puppet", install: "puppet-agent", script: `git -C "$REPO" pull -q && exec puppet apply "$REPO/site.pp"`},
		{name: "ansible", needs: "ansible-pull", install: "ansible-core", script: `exec ansible-pull -U "$URL" -C main -d "$REPO" -i localhost, local.yml`},
	}
}

// peer is a peer that is here, or false.
func (y *yard) peer(name string) (peer, bool) {
	for _, p := range y.all() {
		if p.name == name {
			_, err := exec.LookPath(p.needs)
			return p, err == nil
		}
	}
	return peer{}, false
}

// peers clones for each peer that is here and converges it.
func (y *yard) peers(ctx context.Context) error {
	for _, p := range y.all() {
		if _, here := y.peer(p.name); !here {
			y.notes = append(y.notes, fmt.Sprintf("%s is not installed, so it is left out (apt-get install %s)", p.name, p.install))
			continue
		}
		if err := y.git(ctx, y.dir, "clone", "-q", y.url("repo.git"), "repo-"+p.name); err != nil {
			return err
		}
		if p.name == "cfengine" {
			// It refuses to run without a key pair and its own programs, which
			// it looks for in its work directory; its state is kept there too.
			for _, d := range []string{"ppkeys", "inputs", "state", "outputs"} {
				if err := os.MkdirAll(y.path("cfengine", d), 0o700); err != nil {
					return err
				}
			}
			program, err := exec.LookPath("cf-agent")
			if err != nil {
				return err
			}
			if err := os.Symlink(filepath.Dir(program), y.path("cfengine", "bin")); err != nil {
				return err
			}
			if _, _, err := run(ctx, p.env, "cf-key"); err != nil {
				return err
			}
		}
		for range 2 {
			if _, err := y.pass(ctx, p); err != nil {
				return err
			}
		}
		if err := y.installed(p.name, services, version(0)); err != nil {
			return err
		}
	}
	return nil
}

// asked makes a peer run a command for each service, as `running` does.
const asked = "ASKED=1"

// pass is one whole pass of a peer.
func (y *yard) pass(ctx context.Context, p peer, more ...string) (sample, error) {
	env := slices.Concat([]string{"ROOT=" + y.dir, "REPO=" + y.path("repo-"+p.name), "URL=" + y.url("repo.git")}, p.env, more)
	s, _, err := run(ctx, env, "sh", "-c", p.script)
	return s, err
}

// peerFiles are the peers' own declarations of the same work.
func (y *yard) peerFiles() map[string]string {
	var names []string
	for i := 1; i <= services; i++ {
		names = append(names, `"`+serviceName(i)+`"`)
	}
	fill := strings.NewReplacer("@ROOT@", y.dir, "@LIST@", strings.Join(names, ", "))
	files := map[string]string{}
	for name, body := range map[string]string{"shell.sh": shellLoop, "promises.cf": cfenginePolicy, "site.pp": puppetManifest, "local.yml": ansiblePlay, "svc.yml": ansibleTasks} {
		files[name] = fill.Replace(body)
	}
	return files
}

const shellLoop = `for file in "$REPO"/vars/*; do
  name=${file##*/}
  read version <"$file"
  home=$ROOT/srv-shell/$name
  release=$home/releases/$version
  if [ "$(readlink "$home/current")" != "$release" ]; then
    mkdir -p "$release"
    tar xzf "$ROOT/artifacts/$name-$version.tar.gz" -C "$release"
    ln -sfn "$release" "$home/current"
    touch "$home/restarted"
  fi
  [ -z "$ASKED" ] || /bin/true || touch "$home/restarted"
done
`

const cfenginePolicy = `body common control { bundlesequence => { "main" }; }
bundle agent main {
vars:
  "name" slist => { @LIST@ };
  "home" string => "@ROOT@/srv-cfengine";
  "read[$(name)]" string => readfile("@ROOT@/repo-cfengine/vars/$(name)", "40");
  "version[$(name)]" string => regex_replace("$(read[$(name)])", "\s", "", "");
files:
  "$(home)/$(name)/releases/$(version[$(name)])/." create => "true";
  "$(home)/$(name)/current"
    link_from => to("$(home)/$(name)/releases/$(version[$(name)])"),
    move_obstructions => "true",
    classes => changed("moved_$(name)");
commands:
  "/bin/tar xzf @ROOT@/artifacts/$(name)-$(version[$(name)]).tar.gz -C $(home)/$(name)/releases/$(version[$(name)])"
    if => not(fileexists("$(home)/$(name)/releases/$(version[$(name)])/VERSION"));
  "/usr/bin/touch $(home)/$(name)/restarted" if => classmatch("moved_$(name)");
  asked::
    "/bin/true" args => "$(name)", inform => "false";
}
body link_from to(target) { source => "$(target)"; link_type => "symlink"; }
body classes changed(class) { promise_repaired => { "$(class)" }; }
`

const puppetManifest = `$home = '@ROOT@/srv-puppet'
file { $home: ensure => directory }
[@LIST@].each |$name| {
  $version = strip(file("@ROOT@/repo-puppet/vars/${name}"))
  $release = "${home}/${name}/releases/${version}"
  file { ["${home}/${name}", "${home}/${name}/releases", $release]: ensure => directory }
  -> exec { "unpack ${name}": command => "/bin/tar xzf @ROOT@/artifacts/${name}-${version}.tar.gz -C ${release}", creates => "${release}/VERSION" }
  -> file { "${home}/${name}/current": ensure => link, target => $release }
  ~> exec { "restart ${name}": command => "/usr/bin/touch ${home}/${name}/restarted", refreshonly => true }
}
`

const ansiblePlay = `- hosts: all
  gather_facts: false
  connection: local
  vars:
    home: @ROOT@/srv-ansible
    names: [@LIST@]
  tasks:
    - include_tasks: svc.yml
      loop: "{{ names }}"
      loop_control: { loop_var: name }
`

const ansibleTasks = `- set_fact: { version: "{{ lookup('file', 'vars/' + name) }}" }
- set_fact: { release: "{{ home }}/{{ name }}/releases/{{ version }}" }
- file: { path: "{{ release }}", state: directory }
- unarchive: { src: "@ROOT@/artifacts/{{ name }}-{{ version }}.tar.gz", dest: "{{ release }}", creates: "{{ release }}/VERSION" }
- file: { src: "{{ release }}", dest: "{{ home }}/{{ name }}/current", state: link }
  register: link
- command: touch {{ home }}/{{ name }}/restarted
  when: link.changed
`
