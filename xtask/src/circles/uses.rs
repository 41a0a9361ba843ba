//! What the code of a file takes from other files of its crate.

use std::collections::BTreeSet;

use proc_macro2::{Delimiter, Spacing, TokenStream, TokenTree};
use syn::visit::{self, Visit};
use syn::{Attribute, Expr, ImplItem, Item, ItemMod, ItemUse, Stmt, TraitItem, Visibility};

use super::names::Found;
use super::syntax::{attributes, only_in_tests};
use super::tree::{Tree, UseName, is_public, use_names};

/// A path that leads into another file.
pub(crate) struct Reference {
    /// The file where it leads, by its number.
    pub(crate) to: usize,
    pub(crate) line: usize,
    pub(crate) path: String,
}

/// All references of a file.
pub(crate) fn references(tree: &Tree, file: usize) -> Vec<Reference> {
    let mut bound = Bound(BTreeSet::new());
    bound.visit_file(&tree.files[file].syntax);
    let mut reader = Reader { tree, file, module: tree.files[file].module, bound: bound.0, found: Vec::new() };
    reader.visit_file(&tree.files[file].syntax);
    reader.found
}

struct Reader<'t> {
    tree: &'t Tree,
    file: usize,
    /// The module being read: the file's own, or one within it.
    module: usize,
    /// Names of variables: alone, such a name is taken for the variable.
    bound: BTreeSet<String>,
    found: Vec<Reference>,
}

impl Reader<'_> {
    fn note(&mut self, module: usize, line: usize, path: &[String], end: &str) {
        let to = self.tree.modules[module].file;
        if to != self.file {
            self.found.push(Reference { to, line, path: path.join("::") + end });
        }
    }

    /// A path in the code. One that ends at a module takes nothing from it.
    fn path(&mut self, path: &[String], line: usize) {
        if let [name] = path
            && (self.bound.contains(name) || matches!(name.as_str(), "crate" | "self" | "super" | "Self"))
        {
            return;
        }
        if let Some(Found::Item(module)) = self.tree.resolve(self.module, path) {
            self.note(module, line, path, "");
        }
    }

    fn import(&mut self, import: &ItemUse) {
        for UseName { path, name, line } in use_names(import) {
            if is_public(&import.vis) && self.is_below(&path) {
                // A re-export: whoever uses the name depends on what it leads to, also this file.
                continue;
            }
            match (self.tree.resolve(self.module, &path), name) {
                (Some(Found::Item(module)), _) => self.note(module, line, &path, ""),
                // One that only hands on is seen through: the names tell where they come from.
                (Some(Found::Module(module)), None) if self.has_own_items(module) => {
                    self.note(module, line, &path, "::*");
                }
                _ => {}
            }
        }
    }

    /// Whether a path goes through a module below this one.
    fn is_below(&self, path: &[String]) -> bool {
        let below = |found| match found {
            Found::Module(module) | Found::Item(module) => {
                module != self.module && self.tree.is_within(module, self.module)
            }
        };
        (1..=path.len()).any(|end| self.tree.resolve(self.module, &path[..end]).is_some_and(below))
    }

    fn has_own_items(&self, module: usize) -> bool {
        let within = self.tree.is_within(self.module, module);
        self.tree.modules[module].items.values().any(|item| item.module == module && (item.public || within))
    }

    /// Paths in the words of a macro, which are not parsed.
    fn tokens(&mut self, tokens: TokenStream) {
        let tokens: Vec<TokenTree> = tokens.into_iter().collect();
        let mut at = 0;
        while at < tokens.len() {
            match &tokens[at] {
                TokenTree::Group(group) => self.tokens(group.stream()),
                TokenTree::Ident(first) => {
                    let (path, end) = path_at(&tokens, at);
                    let called =
                        matches!(tokens.get(end), Some(TokenTree::Group(g)) if g.delimiter() == Delimiter::Parenthesis);
                    // A small word alone may be a variable, a field or a keyword.
                    let telling = path.len() > 1 || called || path[0].starts_with(char::is_uppercase);
                    if telling && !follows_dot_or_path(&tokens, at) {
                        self.path(&path, first.span().start().line);
                    }
                    at = end;
                    continue;
                }
                _ => {}
            }
            at += 1;
        }
    }

    /// Paths in the rules of a macro: only those from `$crate` on mean the same wherever it is called.
    fn rule(&mut self, tokens: TokenStream) {
        let tokens: Vec<TokenTree> = tokens.into_iter().collect();
        for (at, token) in tokens.iter().enumerate() {
            match token {
                TokenTree::Group(group) => self.rule(group.stream()),
                TokenTree::Ident(first) if first == "crate" && follows_dot_or_path(&tokens, at) => {
                    self.path(&path_at(&tokens, at).0, first.span().start().line);
                }
                _ => {}
            }
        }
    }
}

/// The path that begins at a word, and where it ends.
fn path_at(tokens: &[TokenTree], at: usize) -> (Vec<String>, usize) {
    let mut path = vec![tokens[at].to_string()];
    let mut end = at + 1;
    while is_colons(tokens, end)
        && let Some(TokenTree::Ident(next)) = tokens.get(end + 2)
    {
        path.push(next.to_string());
        end += 3;
    }
    (path, end)
}

fn is_colons(tokens: &[TokenTree], at: usize) -> bool {
    matches!(
        (tokens.get(at), tokens.get(at + 1)),
        (Some(TokenTree::Punct(a)), Some(TokenTree::Punct(b)))
            if a.as_char() == ':' && a.spacing() == Spacing::Joint && b.as_char() == ':'
    )
}

/// A field, a method, a lifetime, or a path that starts with `::`.
fn follows_dot_or_path(tokens: &[TokenTree], at: usize) -> bool {
    let before = at.checked_sub(1).and_then(|i| tokens.get(i));
    matches!(before, Some(TokenTree::Punct(p)) if matches!(p.as_char(), '.' | '\'' | '$'))
        || at.checked_sub(2).is_some_and(|i| is_colons(tokens, i))
}

impl<'ast> Visit<'ast> for Reader<'_> {
    fn visit_item(&mut self, item: &'ast Item) {
        if !only_in_tests(attributes(item)) {
            visit::visit_item(self, item);
        }
    }

    fn visit_item_mod(&mut self, module: &'ast ItemMod) {
        if module.content.is_none() {
            return;
        }
        let outer = self.module;
        // Modules within functions are not in the tree: their paths are read as the outer module's.
        self.module = self.tree.modules[outer].children.get(&module.ident.to_string()).copied().unwrap_or(outer);
        visit::visit_item_mod(self, module);
        self.module = outer;
    }

    fn visit_item_use(&mut self, import: &'ast ItemUse) {
        self.import(import);
    }

    fn visit_impl_item(&mut self, item: &'ast ImplItem) {
        if !matches!(item, ImplItem::Fn(f) if only_in_tests(&f.attrs)) {
            visit::visit_impl_item(self, item);
        }
    }

    fn visit_trait_item(&mut self, item: &'ast TraitItem) {
        if !matches!(item, TraitItem::Fn(f) if only_in_tests(&f.attrs)) {
            visit::visit_trait_item(self, item);
        }
    }

    fn visit_field(&mut self, field: &'ast syn::Field) {
        if !only_in_tests(&field.attrs) {
            visit::visit_field(self, field);
        }
    }

    fn visit_variant(&mut self, variant: &'ast syn::Variant) {
        if !only_in_tests(&variant.attrs) {
            visit::visit_variant(self, variant);
        }
    }

    fn visit_stmt(&mut self, statement: &'ast Stmt) {
        let attributes: &[Attribute] = match statement {
            Stmt::Local(local) => &local.attrs,
            Stmt::Macro(call) => &call.attrs,
            Stmt::Expr(Expr::Block(block), _) => &block.attrs,
            _ => &[],
        };
        if !only_in_tests(attributes) {
            visit::visit_stmt(self, statement);
        }
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        if path.leading_colon.is_none() {
            let names: Vec<String> = path.segments.iter().map(|segment| segment.ident.to_string()).collect();
            self.path(&names, path.segments[0].ident.span().start().line);
        }
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, call: &'ast syn::Macro) {
        self.visit_path(&call.path);
        if let Some(name) = call.path.get_ident()
            && self.tree.resolve(self.module, &[name.to_string()]).is_none()
            && let Some(module) = self.tree.macros.get(&name.to_string())
        {
            self.note(*module, name.span().start().line, &[name.to_string()], "!");
        }
        self.tokens(call.tokens.clone());
    }

    fn visit_item_macro(&mut self, item: &'ast syn::ItemMacro) {
        if item.ident.is_none() {
            visit::visit_item_macro(self, item);
        } else {
            self.rule(item.mac.tokens.clone());
        }
    }

    fn visit_attribute(&mut self, _: &'ast Attribute) {}

    fn visit_visibility(&mut self, _: &'ast Visibility) {}
}

/// The variables of a file.
struct Bound(BTreeSet<String>);

impl<'ast> Visit<'ast> for Bound {
    fn visit_pat_ident(&mut self, pattern: &'ast syn::PatIdent) {
        let name = pattern.ident.to_string();
        if name.starts_with(|c: char| c.is_lowercase() || c == '_') {
            self.0.insert(name);
        }
        visit::visit_pat_ident(self, pattern);
    }
}
