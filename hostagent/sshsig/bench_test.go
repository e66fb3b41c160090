package sshsig_test

import (
	"testing"

	"drydock/hostagent/sshsig"
)

// BenchmarkIdentify is what one signed commit costs.
func BenchmarkIdentify(b *testing.B) {
	for name, k := range everyKind() {
		list := signers(b, "alice@acme.example "+k.String())
		text := by(k, "git", message).armor()
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				sig, err := sshsig.Parse(text)
				if err != nil {
					b.Fatal(err)
				}
				if _, err := list.Identify("git", message, sig, now); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
