// Ask the built site's own search, as a browser would: node search.js HTML_FOLDER < questions.json
// Prints a JSON list with the pages found for each question, best first.
const fs = require("fs");
const path = require("path");
const vm = require("vm");

const folder = process.argv[2];
const nothing = { childNodes: [], removeChild: () => {}, dataset: {} };
const context = vm.createContext({
  console,
  document: {
    addEventListener: () => {},
    getElementById: () => nothing,
    querySelectorAll: () => [],
    documentElement: { dataset: { content_root: "" } },
    readyState: "loading",
  },
  localStorage: { setItem: () => {} },
  URLSearchParams,
});
context.window = context;
const read = (name) => fs.readFileSync(path.join(folder, name), "utf8");
const scripts = ["documentation_options", "doctools", "language_data", "searchtools"];
const source = scripts.map((name) => read(`_static/${name}.js`)).join("\n");
const ask = `
  const SPHINX_HIGHLIGHT_ENABLED = false;
  ${source}
  ${read("searchindex.js")};
  (question) => {
    const found = Search._performSearch(...Search._parseQuery(question));
    return [...new Set(found.reverse().map((each) => each[0]))];
  }
`;
const search = vm.runInContext(ask, context);
const questions = JSON.parse(fs.readFileSync(0, "utf8"));
process.stdout.write(JSON.stringify(questions.map((each) => Array.from(search(each)))));
