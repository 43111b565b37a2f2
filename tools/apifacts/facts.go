package main

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"sort"
	"strconv"
	"strings"

	apiextensions "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	apiextensionsv1beta1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1beta1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// The graph file is text, one record a line, fields separated by tabs. A node's number is its place
// among the node records (S, L, M, O, U); other records follow the node that they belong to.
//
//	S go model code enum,...      scalar; code is one letter, see scalarCode
//	L go elem kind keys wrapped   list; kind: - (nothing said), a(tomic), s(et), m(ap)
//	M go value kind               map with string keys; kind: - or a(tomic)
//	O go model kind base          struct; kind: - or a(tomic); base: the type that this is but for
//	                              its kind, g(ranular) or a(tomic)
//	f json number node flags merge-key strategies default   a field of the struct
//	e number node                 an embedded struct: nested on the wire, flat in JSON
//	U go model which schema array one of two shapes: b(ool), a(rray) or s(tring array), or a schema
//	G group version kind node     the type of a kind
//
// Field flags: p pointer, o omitempty, z omitzero, r required, - none.

var scalarCode = map[reflect.Type]string{
	reflect.TypeFor[metav1.Time]():               "T",
	reflect.TypeFor[metav1.MicroTime]():          "M",
	reflect.TypeFor[metav1.Duration]():           "D",
	reflect.TypeFor[resource.Quantity]():         "Q",
	reflect.TypeFor[intstr.IntOrString]():        "I",
	reflect.TypeFor[runtime.RawExtension]():      "R",
	reflect.TypeFor[metav1.FieldsV1]():           "F",
	reflect.TypeFor[apiextensions.JSON]():        "J",
	reflect.TypeFor[apiextensionsv1beta1.JSON](): "J",
	reflect.TypeFor[[]byte]():                    "B",
}

var unionCode = map[reflect.Type]string{
	reflect.TypeFor[apiextensions.JSONSchemaPropsOrBool]():               "b",
	reflect.TypeFor[apiextensions.JSONSchemaPropsOrArray]():              "a",
	reflect.TypeFor[apiextensions.JSONSchemaPropsOrStringArray]():        "s",
	reflect.TypeFor[apiextensionsv1beta1.JSONSchemaPropsOrBool]():        "b",
	reflect.TypeFor[apiextensionsv1beta1.JSONSchemaPropsOrArray]():       "a",
	reflect.TypeFor[apiextensionsv1beta1.JSONSchemaPropsOrStringArray](): "s",
}

var (
	typeMeta   = reflect.TypeFor[metav1.TypeMeta]()
	marshaler  = reflect.TypeFor[json.Marshaler]()
	protoTyped = reflect.TypeFor[interface{ Marshal() ([]byte, error) }]()
)

// node is one record with the records that follow it.
type node struct {
	head []string
	rest [][]string
	docs map[string]string
}

type walker struct {
	src   *sources
	nodes []*node
	ids   map[string]int
}

func writeFacts(dir string) error {
	scheme, err := fullScheme()
	if err != nil {
		return err
	}
	kinds := knownKinds(scheme)
	packages := map[string]bool{}
	for _, kind := range kinds {
		collectPackages(kind.typ, packages, map[reflect.Type]bool{})
	}
	var paths []string
	for path := range packages {
		paths = append(paths, path)
	}
	sort.Strings(paths)
	src, err := readSources(paths)
	if err != nil {
		return err
	}
	w := &walker{src: src, ids: map[string]int{}}
	var graph bytes.Buffer
	var tail bytes.Buffer
	for _, kind := range kinds {
		id, err := w.node(kind.typ, comment{})
		if err != nil {
			return fmt.Errorf("%v: %w", kind.gvk, err)
		}
		record(&tail, "G", kind.gvk.Group, kind.gvk.Version, kind.gvk.Kind, strconv.Itoa(id))
	}
	docs := map[string]map[string]string{}
	for id, n := range w.nodes {
		record(&graph, n.head...)
		for _, rest := range n.rest {
			record(&graph, rest...)
		}
		if len(n.docs) > 0 {
			docs[strconv.Itoa(id)] = n.docs
		}
	}
	graph.Write(tail.Bytes())
	if err := os.WriteFile(filepath.Join(dir, "graph.txt"), graph.Bytes(), 0o644); err != nil {
		return err
	}
	return writeDocs(filepath.Join(dir, "docs.json.gz"), docs)
}

func writeDocs(path string, docs map[string]map[string]string) error {
	text, err := json.Marshal(docs)
	if err != nil {
		return err
	}
	var packed bytes.Buffer
	z, err := gzip.NewWriterLevel(&packed, gzip.BestCompression)
	if err != nil {
		return err
	}
	if _, err := z.Write(text); err != nil {
		return err
	}
	if err := z.Close(); err != nil {
		return err
	}
	return os.WriteFile(path, packed.Bytes(), 0o644)
}

func record(b *bytes.Buffer, cells ...string) {
	b.WriteString(strings.Join(cells, "\t"))
	b.WriteByte('\n')
}

func collectPackages(t reflect.Type, out map[string]bool, seen map[reflect.Type]bool) {
	if seen[t] {
		return
	}
	seen[t] = true
	if path := t.PkgPath(); strings.Contains(path, ".") {
		out[path] = true
	}
	switch t.Kind() {
	case reflect.Pointer, reflect.Slice, reflect.Map:
		collectPackages(t.Elem(), out, seen)
	case reflect.Struct:
		for i := range t.NumField() {
			if t.Field(i).IsExported() {
				collectPackages(t.Field(i).Type, out, seen)
			}
		}
	}
}

func modelName(t reflect.Type) string {
	if named, ok := reflect.New(t).Interface().(interface{ OpenAPIModelName() string }); ok {
		return named.OpenAPIModelName()
	}
	if t.Name() == "" || !strings.Contains(t.PkgPath(), ".") {
		return "-"
	}
	host, path, _ := strings.Cut(t.PkgPath(), "/")
	parts := strings.Split(host, ".")
	for i, j := 0, len(parts)-1; i < j; i, j = i+1, j-1 {
		parts[i], parts[j] = parts[j], parts[i]
	}
	return strings.Join(parts, ".") + "." + strings.ReplaceAll(path, "/", ".") + "." + t.Name()
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

// node gives the number of the node for a type as used by a field with these markers.
func (w *walker) node(t reflect.Type, use comment) (int, error) {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	key := t.PkgPath() + "|" + t.String()
	elem := -1
	if (t.Kind() == reflect.Slice || t.Kind() == reflect.Map) && scalarCode[t] == "" {
		var err error
		if t.PkgPath() == "" {
			// The text of an unnamed type does not tell one v1.ExtraValue from another.
			if elem, err = w.node(t.Elem(), comment{}); err != nil {
				return 0, err
			}
			key += "|" + strconv.Itoa(elem)
		}
	}
	own := w.src.typeOf(t.PkgPath(), t.Name())
	marker := func(name string) []string {
		if values := use.markers[name]; len(values) > 0 {
			return values
		}
		return own.markers[name]
	}
	listKind, listKeys, mapKind := "-", "-", "-"
	if t.Kind() == reflect.Slice && scalarCode[t] == "" {
		if kind := marker("listType"); len(kind) > 0 {
			listKind = kind[0][:1]
		}
		listKeys = orDash(strings.Join(marker("listMapKey"), ","))
		key += "|" + listKind + "|" + listKeys
	}
	if t.Kind() == reflect.Map {
		if kind := marker("mapType"); len(kind) > 0 && kind[0] == "atomic" {
			mapKind = "a"
		}
		key += "|" + mapKind
	}
	structKind := ""
	for _, kind := range append(use.markers["structType"], use.markers["mapType"]...) {
		if t.Kind() == reflect.Struct && scalarCode[t] == "" {
			structKind = kind
		}
	}
	base := -1
	if structKind != "" {
		// The field takes the type's own word back: a type of its own, but not a definition.
		var err error
		if base, err = w.node(t, comment{}); err != nil {
			return 0, err
		}
		key += "|" + structKind
	}
	if id, ok := w.ids[key]; ok {
		return id, nil
	}
	id := len(w.nodes)
	w.ids[key] = id
	n := &node{docs: map[string]string{}}
	w.nodes = append(w.nodes, n)
	if own.text != "" && t.Kind() == reflect.Struct {
		n.docs[""] = own.text
	}
	var err error
	switch {
	case scalarCode[t] != "":
		n.head = []string{"S", t.String(), modelName(t), scalarCode[t], "-"}
	case unionCode[t] != "":
		err = w.union(n, t)
	case t.Kind() == reflect.Slice:
		if elem < 0 {
			elem, err = w.node(t.Elem(), comment{})
		}
		wrapped := "-"
		if t.Implements(protoTyped) || reflect.PointerTo(t).Implements(protoTyped) {
			wrapped = "w"
		}
		n.head = []string{"L", t.String(), strconv.Itoa(elem), listKind, listKeys, wrapped}
	case t.Kind() == reflect.Map:
		if t.Key().Kind() != reflect.String {
			return 0, fmt.Errorf("%v: map keys are not strings", t)
		}
		if elem < 0 {
			elem, err = w.node(t.Elem(), comment{})
		}
		n.head = []string{"M", t.String(), strconv.Itoa(elem), mapKind}
	case t.Implements(marshaler) || reflect.PointerTo(t).Implements(marshaler):
		err = fmt.Errorf("%v marshals itself: teach apifacts about it", t)
	case t.Kind() == reflect.Struct:
		err = w.object(n, t, own)
		if base >= 0 {
			n.head[3] = structKind[:1]
			n.head[4] = strconv.Itoa(base)
		}
	default:
		err = w.scalar(n, t, own)
	}
	return id, err
}

func (w *walker) scalar(n *node, t reflect.Type, own *typeSource) error {
	codes := map[reflect.Kind]string{
		reflect.String: "s", reflect.Bool: "b", reflect.Int32: "i", reflect.Int64: "l",
		reflect.Float64: "d", reflect.Interface: "A", reflect.Int: "l",
	}
	code := codes[t.Kind()]
	if code == "" {
		return fmt.Errorf("%v: no scalar of kind %v is known", t, t.Kind())
	}
	var values []string
	for _, v := range own.enum {
		values = append(values, strconv.Quote(v.value))
	}
	n.head = []string{"S", t.String(), "-", code, orDash(strings.Join(values, " "))}
	return nil
}

func (w *walker) union(n *node, t reflect.Type) error {
	schema, err := w.node(t.Field(indexOf(t, "Schema")).Type, comment{})
	if err != nil {
		return err
	}
	array := "-"
	for _, name := range []string{"JSONSchemas", "Property"} {
		if i := indexOf(t, name); i >= 0 {
			id, err := w.node(t.Field(i).Type, comment{})
			if err != nil {
				return err
			}
			array = strconv.Itoa(id)
		}
	}
	n.head = []string{"U", t.String(), modelName(t), unionCode[t], strconv.Itoa(schema), array}
	return nil
}

func indexOf(t reflect.Type, name string) int {
	for i := range t.NumField() {
		if t.Field(i).Name == name {
			return i
		}
	}
	return -1
}

func (w *walker) object(n *node, t reflect.Type, own *typeSource) error {
	kind := "-"
	for _, m := range append(own.markers["structType"], own.markers["mapType"]...) {
		if m == "atomic" {
			kind = "a"
		}
	}
	n.head = []string{"O", t.String(), modelName(t), kind, "-"}
	return w.fields(n, t, own, true)
}

// fields adds the fields of a struct, and flat those of its embedded structs, to the node. Only
// the struct's own fields are on its wire: an embedded struct is one nested message there.
func (w *walker) fields(n *node, t reflect.Type, own *typeSource, onWire bool) error {
	for i := range t.NumField() {
		f := t.Field(i)
		name, options, _ := strings.Cut(f.Tag.Get("json"), ",")
		if name == "-" || !f.IsExported() {
			continue
		}
		number, err := protoNumber(f)
		if err != nil {
			return fmt.Errorf("%v.%s: %w", t, f.Name, err)
		}
		if f.Anonymous && name == "" {
			embedded := w.src.typeOf(f.Type.PkgPath(), f.Type.Name())
			if onWire && number != "0" {
				id, err := w.node(f.Type, comment{})
				if err != nil {
					return err
				}
				n.rest = append(n.rest, []string{"e", number, strconv.Itoa(id)})
			} else if onWire && f.Type != typeMeta && hasProto(t) {
				return fmt.Errorf("%v embeds %v without a protobuf number", t, f.Type)
			}
			if err := w.fields(n, f.Type, embedded, false); err != nil {
				return err
			}
			continue
		}
		if name == "" {
			return fmt.Errorf("%v.%s has no JSON name", t, f.Name)
		}
		if !onWire {
			number = "0"
		}
		if err := w.field(n, f, own.fields[f.Name], name, options, number); err != nil {
			return fmt.Errorf("%v.%s: %w", t, f.Name, err)
		}
	}
	return nil
}

func (w *walker) field(n *node, f reflect.StructField, doc comment, name, options, number string) error {
	id, err := w.node(f.Type, doc)
	if err != nil {
		return err
	}
	flags := ""
	omit := false
	if f.Type.Kind() == reflect.Pointer {
		flags += "p"
	}
	for _, option := range strings.Split(options, ",") {
		switch option {
		case "omitempty":
			flags += "o"
			omit = true
		case "omitzero":
			flags += "z"
			omit = true
		}
	}
	_, optional := doc.markers["optional"]
	_, required := doc.markers["required"]
	if !optional && (required || !omit) {
		flags += "r"
	}
	value := "-"
	if values := doc.markers["default"]; len(values) > 0 && json.Valid([]byte(values[0])) {
		value = values[0]
	}
	n.rest = append(n.rest, []string{
		"f", name, number, strconv.Itoa(id), orDash(flags), orDash(f.Tag.Get("patchMergeKey")),
		orDash(f.Tag.Get("patchStrategy")), value,
	})
	elem := f.Type
	for elem.Kind() == reflect.Pointer || elem.Kind() == reflect.Slice {
		elem = elem.Elem()
	}
	text := doc.text + enumText(w.src.typeOf(elem.PkgPath(), elem.Name()).enum)
	if text != "" {
		n.docs[name] = text
	}
	return nil
}

// protoNumber is the field's number from its protobuf tag, "0" if it has none. The wire type in the
// tag is wrong for many pointers upstream: what is on the wire follows from the Go type.
func protoNumber(f reflect.StructField) (string, error) {
	tag := f.Tag.Get("protobuf")
	if tag == "" || tag == "-" {
		return "0", nil
	}
	parts := strings.Split(tag, ",")
	if len(parts) < 2 {
		return "", fmt.Errorf("protobuf tag %q", tag)
	}
	_, err := strconv.Atoi(parts[1])
	return parts[1], err
}

func hasProto(t reflect.Type) bool {
	for i := range t.NumField() {
		if t.Field(i).Tag.Get("protobuf") != "" {
			return true
		}
	}
	return false
}
