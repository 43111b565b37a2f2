package main

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os/exec"
	"path/filepath"
	"regexp"
	"sort"
	"strconv"
	"strings"
)

// Reflection does not see comments: descriptions, list types, enums and defaults come from them.

type comment struct {
	text    string
	markers map[string][]string
}

type enumValue struct{ name, value, doc string }

type typeSource struct {
	comment
	fields map[string]comment
	enum   []enumValue
}

type sources struct {
	packages map[string]map[string]*typeSource
}

// readSources parses the Go files of the packages.
func readSources(paths []string) (*sources, error) {
	args := append([]string{"list", "-f", "{{.ImportPath}}\t{{.Dir}}"}, paths...)
	out, err := exec.Command("go", args...).Output()
	if err != nil {
		return nil, fmt.Errorf("go list: %w", err)
	}
	s := &sources{packages: map[string]map[string]*typeSource{}}
	for _, line := range strings.Split(strings.TrimSpace(string(out)), "\n") {
		path, dir, _ := strings.Cut(line, "\t")
		types, err := readPackage(dir)
		if err != nil {
			return nil, err
		}
		s.packages[path] = types
	}
	return s, nil
}

func (s *sources) typeOf(pkg, name string) *typeSource {
	if t := s.packages[pkg][name]; t != nil {
		return t
	}
	return &typeSource{fields: map[string]comment{}}
}

func readPackage(dir string) (map[string]*typeSource, error) {
	files, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil {
		return nil, err
	}
	types := map[string]*typeSource{}
	consts := map[string][]enumValue{}
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		set := token.NewFileSet()
		tree, err := parser.ParseFile(set, file, nil, parser.ParseComments)
		if err != nil {
			return nil, err
		}
		for _, decl := range tree.Decls {
			gen, ok := decl.(*ast.GenDecl)
			if !ok {
				continue
			}
			for _, spec := range gen.Specs {
				switch spec := spec.(type) {
				case *ast.TypeSpec:
					types[spec.Name.Name] = readType(set, tree, gen, spec)
				case *ast.ValueSpec:
					readConst(consts, gen, spec)
				}
			}
		}
	}
	for name, t := range types {
		if _, ok := t.markers["enum"]; ok {
			t.enum = consts[name]
			sort.Slice(t.enum, func(i, j int) bool { return t.enum[i].value < t.enum[j].value })
		}
	}
	return types, nil
}

func readType(set *token.FileSet, tree *ast.File, gen *ast.GenDecl, spec *ast.TypeSpec) *typeSource {
	doc := spec.Doc
	if doc == nil {
		doc = gen.Doc
	}
	t := &typeSource{comment: readComment(doc), fields: map[string]comment{}}
	// Markers may also stand one blank line above the type's own comment.
	start := gen.Pos()
	if doc != nil {
		start = doc.Pos()
	}
	for _, group := range tree.Comments {
		if set.Position(group.End()).Line+2 == set.Position(start).Line {
			for name, values := range readComment(group).markers {
				t.markers[name] = append(t.markers[name], values...)
			}
		}
	}
	if st, ok := spec.Type.(*ast.StructType); ok {
		for _, field := range st.Fields.List {
			for _, name := range field.Names {
				t.fields[name.Name] = readComment(field.Doc)
			}
			if len(field.Names) == 0 {
				t.fields[embeddedName(field.Type)] = readComment(field.Doc)
			}
		}
	}
	return t
}

// embeddedName is the name under which reflection knows an embedded field.
func embeddedName(expr ast.Expr) string {
	switch expr := expr.(type) {
	case *ast.StarExpr:
		return embeddedName(expr.X)
	case *ast.SelectorExpr:
		return expr.Sel.Name
	case *ast.Ident:
		return expr.Name
	}
	return ""
}

func readConst(consts map[string][]enumValue, gen *ast.GenDecl, spec *ast.ValueSpec) {
	typ, ok := spec.Type.(*ast.Ident)
	if !ok || gen.Tok != token.CONST || len(spec.Values) != len(spec.Names) {
		return
	}
	doc := spec.Doc
	if doc == nil {
		doc = spec.Comment
	}
	for i, name := range spec.Names {
		lit, ok := spec.Values[i].(*ast.BasicLit)
		if !ok || lit.Kind != token.STRING {
			continue
		}
		value, err := strconv.Unquote(lit.Value)
		if err != nil {
			continue
		}
		consts[typ.Name] = append(consts[typ.Name], enumValue{name.Name, value, readComment(doc).text})
	}
}

// readComment separates prose from markers such as +optional and +listType=map.
func readComment(group *ast.CommentGroup) comment {
	c := comment{markers: map[string][]string{}}
	if group == nil {
		return c
	}
	var prose []string
	cut := false
	for _, line := range commentLines(group) {
		trimmed := strings.TrimSpace(line)
		if strings.HasPrefix(trimmed, "+") {
			name, value, _ := strings.Cut(trimmed[1:], "=")
			c.markers[name] = append(c.markers[name], value)
			continue
		}
		cut = cut || line == "---"
		if !cut && !strings.HasPrefix(trimmed, "TODO") {
			prose = append(prose, line)
		}
	}
	c.text = joinProse(prose)
	return c
}

func commentLines(group *ast.CommentGroup) []string {
	var lines []string
	for _, c := range group.List {
		text := c.Text
		if rest, ok := strings.CutPrefix(text, "//"); ok {
			lines = append(lines, strings.TrimRight(strings.TrimPrefix(rest, " "), " "))
			continue
		}
		text = strings.TrimSuffix(strings.TrimPrefix(text, "/*"), "*/")
		for _, line := range strings.Split(text, "\n") {
			lines = append(lines, strings.TrimRight(strings.TrimSpace(line), " "))
		}
	}
	return lines
}

// joinProse makes one line of each paragraph; indented lines stay lines of their own.
func joinProse(lines []string) string {
	var b []byte
	chop := func() {
		if len(b) > 0 {
			b = b[:len(b)-1]
		}
	}
	for _, line := range lines {
		switch {
		case line == "":
			chop()
			b = append(b, "\n\n"...)
		case line[0] == ' ' || line[0] == '\t':
			chop()
			b = append(b, "\n"+line+"\n"...)
		default:
			b = append(b, line+" "...)
		}
	}
	return strings.TrimSpace(strings.Trim(string(b), "\n"))
}

var spaces = regexp.MustCompile(`\s+`)

// enumText is the paragraph that upstream adds to the description of an enum field.
func enumText(values []enumValue) string {
	if len(values) == 0 {
		return ""
	}
	var lines []string
	for _, v := range values {
		doc := strings.TrimSpace(strings.TrimPrefix(strings.TrimSpace(v.doc), v.name))
		doc = spaces.ReplaceAllString(doc, " ")
		lines = append(lines, fmt.Sprintf(" - `%q` %s", v.value, doc))
	}
	sort.Strings(lines)
	return "\n\nPossible enum values:\n" + strings.Join(lines, "\n")
}
