// What the first visit loads, compressed: everything that index.html and the overview need. Fails above the limit.
import { readFileSync } from 'node:fs';
import { gzipSync } from 'node:zlib';

const LIMIT = 300 * 1024;
const manifest = JSON.parse(readFileSync('dist/.vite/manifest.json', 'utf8'));
const files = new Set(['index.html']);
const seen = new Set();
const take = (name) => {
  if (seen.has(name)) return;
  seen.add(name);
  const chunk = manifest[name];
  files.add(chunk.file);
  chunk.css?.forEach((file) => files.add(file));
  chunk.imports?.forEach(take);
};
take('index.html');
take('src/pages/overview.tsx');
let total = 0;
for (const file of files) {
  const size = gzipSync(readFileSync(`dist/${file}`), { level: 9 }).length;
  total += size;
  console.log(`${(size / 1024).toFixed(1).padStart(8)} KiB  ${file}`);
}
console.log(`${(total / 1024).toFixed(1).padStart(8)} KiB  in all, of ${LIMIT / 1024} KiB allowed`);
if (total > LIMIT) process.exit(1);
