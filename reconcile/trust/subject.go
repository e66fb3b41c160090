package trust

import "drydock/spec"

// SubjectOf is what people sign when they approve a service as it is declared,
// or attest something for it: the same on every host of its environment.
func SubjectOf(s spec.Service) Subject {
	return Subject{
		Environment: s.Environment, Service: s.Name, Version: s.Release.Version, Spec: s.SpecHash,
		Digest: DigestOf(spec.Change{Digest: s.Release.Digest, Digests: s.Digests}),
	}
}

// RemovalOf is what people sign when they agree that a service is stopped and
// uninstalled.
func RemovalOf(environment string, r spec.Removed) Subject {
	return Subject{Environment: environment, Service: r.Name, Spec: r.Spec}
}
