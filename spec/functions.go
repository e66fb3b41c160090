package spec

import (
	"fmt"
	"strings"
	"sync"
	"unicode/utf8"

	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/convert"
	"github.com/zclconf/go-cty/cty/function"
)

// functions are all there are, but credential, which is not a value and so is
// read where an attribute takes one. Each result's size is known, and checked,
// before it is built.
var functions = sync.OnceValue(buildFunctions)

func buildFunctions() map[string]function.Function {
	return map[string]function.Function{
		"upper":      onString(strings.ToUpper),
		"lower":      onString(strings.ToLower),
		"trimprefix": onStrings(strings.TrimPrefix, "text", "prefix"),
		"trimsuffix": onStrings(strings.TrimSuffix, "text", "suffix"),
		"replace":    replaceFunc(),
		"join":       joinFunc(),
		"split":      splitFunc(),
		"concat":     concatFunc(),
		"merge":      mergeFunc(),
		"lookup":     lookupFunc(),
		"length":     lengthFunc(),
		"contains":   containsFunc(),
	}
}

func text(name string) function.Parameter {
	return function.Parameter{Name: name, Type: cty.String}
}

func anything(name string) function.Parameter {
	return function.Parameter{Name: name, Type: cty.DynamicPseudoType, AllowDynamicType: true}
}

func onString(f func(string) string) function.Function {
	return function.New(&function.Spec{
		Params: []function.Parameter{text("text")},
		Type:   function.StaticReturnType(cty.String),
		Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
			return cty.StringVal(f(args[0].AsString())), nil
		},
	})
}

func onStrings(f func(a, b string) string, a, b string) function.Function {
	return function.New(&function.Spec{
		Params: []function.Parameter{text(a), text(b)},
		Type:   function.StaticReturnType(cty.String),
		Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
			return cty.StringVal(f(args[0].AsString(), args[1].AsString())), nil
		},
	})
}

func replaceFunc() function.Function {
	return function.New(&function.Spec{
		Params: []function.Parameter{text("text"), text("old"), text("new")},
		Type:   function.StaticReturnType(cty.String),
		Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
			s, old, by := args[0].AsString(), args[1].AsString(), args[2].AsString()
			n := strings.Count(s, old)
			if err := fits(len(s) + n*(len(by)-len(old))); err != nil {
				return cty.NilVal, err
			}
			return cty.StringVal(strings.ReplaceAll(s, old, by)), nil
		},
	})
}

func joinFunc() function.Function {
	return function.New(&function.Spec{
		Params: []function.Parameter{text("separator"), {Name: "list", Type: cty.List(cty.String)}},
		Type:   function.StaticReturnType(cty.String),
		Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
			sep, size := args[0].AsString(), 0
			var parts []string
			for it := args[1].ElementIterator(); it.Next(); {
				_, v := it.Element()
				if !v.IsKnown() {
					return cty.UnknownVal(cty.String), nil
				}
				if v.IsNull() {
					return cty.NilVal, function.NewArgErrorf(1, "an element is null")
				}
				parts = append(parts, v.AsString())
				size += len(v.AsString()) + len(sep)
				if err := fits(size - len(sep)); err != nil {
					return cty.NilVal, err
				}
			}
			return cty.StringVal(strings.Join(parts, sep)), nil
		},
	})
}

func splitFunc() function.Function {
	return function.New(&function.Spec{
		Params: []function.Parameter{text("separator"), text("text")},
		Type:   function.StaticReturnType(cty.List(cty.String)),
		Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
			sep, s := args[0].AsString(), args[1].AsString()
			n := strings.Count(s, sep) + 1
			if sep == "" {
				n = utf8.RuneCountInString(s)
			}
			if err := fitsCollection(n); err != nil {
				return cty.NilVal, err
			}
			parts := strings.Split(s, sep)
			vals := make([]cty.Value, len(parts))
			for i, p := range parts {
				vals[i] = cty.StringVal(p)
			}
			if len(vals) == 0 {
				return cty.ListValEmpty(cty.String), nil
			}
			return cty.ListVal(vals), nil
		},
	})
}

// isSequence and isMapping are what the functions on collections take; sets do
// not occur in the language.
func isSequence(t cty.Type) bool { return t.IsTupleType() || t.IsListType() || t.IsSetType() }
func isMapping(t cty.Type) bool  { return t.IsObjectType() || t.IsMapType() }

func concatFunc() function.Function {
	lists := anything("lists")
	impl := func(args []cty.Value) (cty.Value, error) {
		var vals []cty.Value
		n := 0
		for i, a := range args {
			if !isSequence(a.Type()) {
				return cty.NilVal, function.NewArgErrorf(i, "a list is needed, not %s", a.Type().FriendlyName())
			}
			n += a.LengthInt()
			if err := fitsCollection(n); err != nil {
				return cty.NilVal, err
			}
			for it := a.ElementIterator(); it.Next(); {
				_, v := it.Element()
				vals = append(vals, v)
			}
		}
		return cty.TupleVal(vals), nil
	}
	return function.New(&function.Spec{VarParam: &lists, Type: typeByValue(impl), Impl: valueOf(impl)})
}

func mergeFunc() function.Function {
	maps := anything("maps")
	impl := func(args []cty.Value) (cty.Value, error) {
		vals := map[string]cty.Value{}
		for i, a := range args {
			if !isMapping(a.Type()) {
				return cty.NilVal, function.NewArgErrorf(i, "a map is needed, not %s", a.Type().FriendlyName())
			}
			for it := a.ElementIterator(); it.Next(); {
				k, v := it.Element()
				vals[k.AsString()] = v
				if err := fitsCollection(len(vals)); err != nil {
					return cty.NilVal, err
				}
			}
		}
		return cty.ObjectVal(vals), nil
	}
	return function.New(&function.Spec{VarParam: &maps, Type: typeByValue(impl), Impl: valueOf(impl)})
}

// typeByValue gives a function whose result's type depends on its arguments'
// values its type: dynamic until all of them are known.
func typeByValue(impl func([]cty.Value) (cty.Value, error)) function.TypeFunc {
	return func(args []cty.Value) (cty.Type, error) {
		for _, a := range args {
			if !a.IsKnown() || a.IsNull() {
				return cty.DynamicPseudoType, nil
			}
		}
		v, err := impl(args)
		if err != nil {
			return cty.NilType, err
		}
		return v.Type(), nil
	}
}

func valueOf(impl func([]cty.Value) (cty.Value, error)) function.ImplFunc {
	return func(args []cty.Value, _ cty.Type) (cty.Value, error) { return impl(args) }
}

func lookupFunc() function.Function {
	impl := func(args []cty.Value) (cty.Value, error) {
		if len(args) != 3 {
			return cty.NilVal, fmt.Errorf("lookup takes a map, a key, and the value for when the key is absent")
		}
		m, key := args[0], args[1]
		if !isMapping(m.Type()) {
			return cty.NilVal, function.NewArgErrorf(0, "a map is needed, not %s", m.Type().FriendlyName())
		}
		if key.Type() != cty.String {
			return cty.NilVal, function.NewArgErrorf(1, "a string is needed")
		}
		if m.Type().IsObjectType() {
			if m.Type().HasAttribute(key.AsString()) {
				return m.GetAttr(key.AsString()), nil
			}
			return args[2], nil
		}
		if m.HasIndex(key).True() {
			return m.Index(key), nil
		}
		return args[2], nil
	}
	return function.New(&function.Spec{
		Params: []function.Parameter{anything("map"), anything("key"), anything("default")},
		Type: func(args []cty.Value) (cty.Type, error) {
			// host.labels is an unknown map of strings where no host is known:
			// the result stays a string.
			if args[0].Type().Equals(cty.Map(cty.String)) && args[2].Type() == cty.String {
				return cty.String, nil
			}
			return typeByValue(impl)(args)
		},
		Impl: func(args []cty.Value, t cty.Type) (cty.Value, error) {
			v, err := impl(args)
			if err != nil || t == cty.DynamicPseudoType {
				return v, err
			}
			return convert.Convert(v, t)
		},
	})
}

func lengthFunc() function.Function {
	p := anything("value")
	return function.New(&function.Spec{
		Params: []function.Parameter{p},
		Type:   function.StaticReturnType(cty.Number),
		Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
			v := args[0]
			switch {
			case v.Type() == cty.String:
				return cty.NumberIntVal(int64(utf8.RuneCountInString(v.AsString()))), nil
			case isSequence(v.Type()), isMapping(v.Type()):
				return cty.NumberIntVal(int64(v.LengthInt())), nil
			}
			return cty.NilVal, function.NewArgErrorf(0, "a string, list or map is needed, not %s", v.Type().FriendlyName())
		},
	})
}

func containsFunc() function.Function {
	return function.New(&function.Spec{
		Params: []function.Parameter{anything("list"), anything("value")},
		Type:   function.StaticReturnType(cty.Bool),
		Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
			if !isSequence(args[0].Type()) {
				return cty.NilVal, function.NewArgErrorf(0, "a list is needed, not %s", args[0].Type().FriendlyName())
			}
			unknown := false
			for it := args[0].ElementIterator(); it.Next(); {
				_, v := it.Element()
				eq := v.Equals(args[1])
				if !eq.IsKnown() {
					unknown = true
				} else if eq.True() {
					return cty.True, nil
				}
			}
			if unknown {
				return cty.UnknownVal(cty.Bool), nil
			}
			return cty.False, nil
		},
	})
}

func fits(bytes int) error {
	if bytes > maxString {
		return fmt.Errorf("the result would have %d bytes; a string may have %d", bytes, maxString)
	}
	return nil
}

func fitsCollection(n int) error {
	if n > maxCollection {
		return fmt.Errorf("the result would have %d elements; a collection may have %d", n, maxCollection)
	}
	return nil
}
