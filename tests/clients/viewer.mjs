// OHIF in a real browser against a running server: the study list, a series drawn and scrolled.
//
// usage: node viewer.mjs DIST CHROMIUM PLAYWRIGHT DICOMWEB_ROOT STUDY PATIENT_NAME PICTURE.png
//
// DIST is the folder `dist` of the npm package @ohif/app, PLAYWRIGHT the folder of playwright-core.
// The viewer is served here, on another port and so another origin than the server, which must
// allow it (cors.allowed_origins); nothing but loopback is let through. Ends with exit code 0 if the
// study is listed, its first picture and, after scrolling, another one is drawn, and no request to
// the server failed. The picture that was drawn is kept in PICTURE.png.

import { createServer } from 'node:http';
import { createReadStream, existsSync, statSync } from 'node:fs';
import { createRequire } from 'node:module';
import { extname, join, normalize } from 'node:path';

const [dist, executablePath, playwright, root, study, patient, picture] = process.argv.slice(2);
const { chromium } = createRequire(import.meta.url)(playwright);
const patience = 90_000;

const config = `window.config = {
  routerBasename: '/', showStudyList: true, extensions: [], modes: [], showWarningMessageForCrossOrigin: false,
  showCPUFallbackMessage: false, investigationalUseDialog: { option: 'never' }, maxNumberOfWebWorkers: 2,
  defaultDataSourceName: 'dicomweb', dataSources: [{
    namespace: '@ohif/extension-default.dataSourcesModule.dicomweb', sourceName: 'dicomweb',
    configuration: { friendlyName: 'server', name: 'server', qidoRoot: '${root}', wadoRoot: '${root}', wadoUriRoot: '${root}',
      imageRendering: 'wadors', thumbnailRendering: 'wadors', enableStudyLazyLoad: true, qidoSupportsIncludeField: true,
      supportsWildcard: true, supportsFuzzyMatching: false, singlepart: 'bulkdata,video,pdf', bulkDataURI: { enabled: true } } }] };`;
const types = { '.html': 'text/html', '.js': 'text/javascript', '.css': 'text/css', '.json': 'application/json',
  '.wasm': 'application/wasm', '.svg': 'image/svg+xml', '.png': 'image/png' };

const viewer = createServer((request, response) => {
  const path = normalize(decodeURIComponent(new URL(request.url, 'http://localhost').pathname));
  const headers = { 'Cross-Origin-Opener-Policy': 'same-origin', 'Cross-Origin-Embedder-Policy': 'require-corp' };
  if (path === '/app-config.js') {
    response.writeHead(200, { ...headers, 'Content-Type': types['.js'] }).end(config);
    return;
  }
  let file = join(dist, path);
  if (!existsSync(file) || !statSync(file).isFile()) file = join(dist, 'index.html');
  response.writeHead(200, { ...headers, 'Content-Type': types[extname(file)] ?? 'application/octet-stream' });
  createReadStream(file).pipe(response);
});
await new Promise((listening) => viewer.listen(0, '127.0.0.1', listening));
const origin = `http://127.0.0.1:${viewer.address().port}`;

const browser = await chromium.launch({ executablePath, args: ['--no-sandbox', '--disable-dev-shm-usage',
  '--use-gl=angle', '--use-angle=swiftshader', '--enable-unsafe-swiftshader'] });
const page = await browser.newPage({ viewport: { width: 1280, height: 900 } });
const failures = [];
const asked = new Set();
await page.route('**', (route) => {
  const { hostname, protocol } = new URL(route.request().url());
  const local = hostname === '127.0.0.1' || hostname === 'localhost' || !protocol.startsWith('http');
  return local ? route.continue() : route.abort();
});
page.on('response', (response) => {
  if (!response.url().startsWith(root)) return;
  asked.add(new URL(response.url()).pathname.replace(/^.*\/(studies|series|instances|frames|metadata|rendered|thumbnail|bulkdata)(\/[\d.,]+)?$/, '$1'));
  if (response.status() >= 400) failures.push(`${response.status()} ${response.request().method()} ${response.url()}`);
});
page.on('requestfailed', (request) => {
  const reason = request.failure()?.errorText ?? '';
  if (request.url().startsWith(root) && reason !== 'net::ERR_ABORTED') failures.push(`${reason} ${request.url()}`);
});

// What the biggest canvas of the page shows: how many grey levels, and a fingerprint.
const look = () => page.evaluate(() => {
  const canvases = [...document.querySelectorAll('canvas')].filter((c) => c.width > 200 && c.height > 200);
  if (canvases.length === 0) return null;
  const canvas = canvases.sort((a, b) => b.width * b.height - a.width * a.height)[0];
  const copy = document.createElement('canvas');
  [copy.width, copy.height] = [canvas.width, canvas.height];
  const context = copy.getContext('2d');
  context.drawImage(canvas, 0, 0);
  const { data } = context.getImageData(0, 0, copy.width, copy.height);
  const levels = new Set();
  let lit = 0, print = 0;
  for (let at = 0; at < data.length; at += 4) {
    levels.add(data[at]);
    if (data[at] > 16) lit += 1;
    print = (print * 31 + data[at]) | 0;
  }
  return { levels: levels.size, lit: lit / (data.length / 4), print };
});
const until = async (what, holds) => {
  const end = Date.now() + patience;
  for (;;) {
    const seen = await holds();
    if (seen) return seen;
    if (Date.now() > end) throw new Error(`${what}: not within ${patience / 1000} s`);
    await new Promise((later) => setTimeout(later, 250));
  }
};
const drawn = async () => {
  const seen = await look();
  return seen && seen.levels > 32 && seen.lit > 0.02 ? seen : null;
};

let code = 1;
try {
  await page.goto(`${origin}/`, { waitUntil: 'domcontentloaded' });
  await page.getByText(patient).first().waitFor({ timeout: patience });
  console.log(`listed: ${patient}`);
  await page.goto(`${origin}/viewer?StudyInstanceUIDs=${study}`, { waitUntil: 'domcontentloaded' });
  const first = await until('no picture was drawn', drawn);
  console.log(`drawn: ${first.levels} grey levels, ${(100 * first.lit).toFixed(0)} % of the pixels lit`);
  // The viewer shows newcomers around first.
  await page.getByText('Skip all').click({ timeout: 3_000 }).catch(() => {});
  const canvas = page.locator('canvas').first();
  const box = await canvas.boundingBox();
  await page.mouse.move(box.x + box.width / 2, box.y + box.height / 2);
  const prints = new Set([first.print]);
  for (let turn = 0; turn < 4; turn += 1) {
    const before = prints.size;
    await page.mouse.wheel(0, 100);
    await until('scrolling drew no other picture', async () => {
      const seen = await drawn();
      if (seen) prints.add(seen.print);
      return prints.size > before;
    });
  }
  console.log(`scrolled: ${prints.size} different pictures`);
  await page.screenshot({ path: picture });
  if (failures.length > 0) throw new Error(`requests failed:\n${failures.join('\n')}`);
  console.log(`asked for: ${[...asked].sort().join(', ')}`);
  code = 0;
} catch (error) {
  console.error(`viewer: ${error.message}`);
  for (const failure of failures) console.error(failure);
  await page.screenshot({ path: picture }).catch(() => {});
} finally {
  await browser.close();
  viewer.close();
}
process.exit(code);
