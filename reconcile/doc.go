// Package reconcile is the pure middle: what a host must do so that it runs
// what is wanted (Diff), what holds it back (gates), what follows when it
// fails (Decide), what its journal adds up to (Memory), and the one loop that
// carries a plan out (Engine). It touches no host, network, store or clock of
// its own: drivers, journal, slots and time come in from outside.
package reconcile
