// How the site's search ranks what it found. Sphinx's own figures, and on top of them what a page
// is for: who searches wants to learn and to do; records and evidence come after that.
var Scorer = {
  objNameMatch: 11,
  objPartialMatch: 6,
  objPrio: { 0: 15, 1: 5, 2: -5 },
  objPrioDefault: 0,
  title: 15,
  partialTitle: 7,
  term: 5,
  partialTerm: 2,
  score: ([page, title, anchor, description, score, filename, kind]) => {
    const places = [
      [/^(when-not|how-to\/moving-over)$/, 3],
      [/^(tutorial|handlers|testing-your-application|how-to\/)/, 6],
      [/^(deadlines|fairness|guarantees|operations|configuration|metrics|http-client|http-api|cli)$/, 4],
      [/^(deploy-ecs|lifecycle|glossary|writing-an-adapter|examples)$/, 3],
      [/^(python|http-calls)$/, 1],
      [/^(reliability|performance|benchmarks|field-reports|contributing|tests)$/, -2],
      [/^(decisions|sabotage|changelog|tables)/, -4],
    ];
    const found = places.find(([pattern]) => pattern.test(page));
    return score + (found ? found[1] : 0);
  },
};
