// Opens reports as a reader does, and says what is wrong with them: one line of JSON for each.
// node report.mjs CHROMIUM FILE.html…
import { chromium } from 'playwright-core';
import { pathToFileURL } from 'node:url';

const [executablePath, ...files] = process.argv.slice(2);
const browser = await chromium.launch({ executablePath, args: ['--no-sandbox'] });

async function look(file) {
  const bad = [];
  const must = (fine, what) => { if (!fine) bad.push(what); };
  const url = pathToFileURL(file).href;
  const open = async (options) => {
    const context = await browser.newContext(options);
    const page = await context.newPage();
    page.on('console', (message) => {
      if (['error', 'warning'].includes(message.type())) bad.push(`console: ${message.text()}`);
    });
    page.on('pageerror', (error) => bad.push(`script: ${error.message}`));
    page.on('request', (request) => {
      if (request.url() !== url && !request.url().startsWith('data:')) bad.push(`asks for ${request.url()}`);
    });
    await page.goto(url);
    return page;
  };
  // Where an element's colour is a mix, the browser computes it: brightness of what is really painted behind the text.
  const brightness = (page) => page.evaluate(() => {
    const canvas = new OffscreenCanvas(1, 1).getContext('2d');
    const root = [document.body, document.documentElement].map((e) => getComputedStyle(e).backgroundColor);
    canvas.fillStyle = root.find((c) => !/, 0\)|transparent/.test(c)) ?? 'white';
    canvas.fillRect(0, 0, 1, 1);
    const [r, g, b] = canvas.getImageData(0, 0, 1, 1).data;
    return (r + g + b) / 765;
  });
  const overflow = (page) => page.evaluate(() => document.documentElement.scrollWidth - innerWidth);

  const wide = await open({ viewport: { width: 1400, height: 900 }, colorScheme: 'light' });
  const verdict = await wide.locator('h1').boundingBox();
  must(verdict && verdict.y + verdict.height <= 900, 'the verdict is not on the first screen');
  must((await wide.locator('h1').innerText()).length > 10, 'the verdict says nothing');
  for (const number of await wide.locator('.big .number').all()) {
    const box = await number.boundingBox();
    must(box && box.y + box.height <= 900, 'a key figure is not on the first screen');
  }
  must(!/NaN|undefined|null|Infinity/.test(await wide.locator('main').innerText()), 'a number is missing');
  must(await overflow(wide) <= 0, 'it scrolls sideways at 1400 px');
  must(await brightness(wide) > 0.85, 'light mode is dark');
  const plots = await wide.locator('svg:has([data-tip])').count();
  for (let i = 0; i < plots; i += 1) {
    const plot = wide.locator('svg:has([data-tip])').nth(i);
    await plot.scrollIntoViewIfNeeded();
    const hit = plot.locator('[data-tip]').first();
    const says = await hit.getAttribute('data-tip');
    const box = await hit.boundingBox();
    await wide.mouse.move(box.x + box.width / 2, box.y + box.height / 2);
    const tip = wide.locator('.tip');
    must(await tip.isVisible(), `plot ${i} says nothing under the pointer`);
    must((await tip.innerText()).trim().length > 2 && says.length > 2, `plot ${i} has an empty tip`);
    await wide.mouse.move(1, 1);
  }
  const slider = wide.locator('.slider input').first();
  const sliders = await wide.locator('.slider input').count();
  must(plots + sliders > 0, 'no plot reacts');
  if (sliders > 0) {
    const out = wide.locator('.slider output').first(), mark = wide.locator('svg .cursor').first();
    const before = [await out.innerText(), await mark.getAttribute('cx')];
    await slider.focus();
    await slider.press(before[1] > 300 ? 'Home' : 'End');
    const after = [await out.innerText(), await mark.getAttribute('cx')];
    must(before[0] !== after[0] && before[1] !== after[1], 'the slider moves nothing');
  }
  await wide.emulateMedia({ media: 'print', colorScheme: 'light' });
  must(await brightness(wide) > 0.95, 'print has a background');
  must(await wide.locator('.slider').evaluateAll((all) => all.every((e) => getComputedStyle(e).display === 'none')),
    'print shows a slider');
  if (file === files[0]) must((await wide.pdf()).length > 10_000, 'it does not print');

  const dark = await open({ viewport: { width: 1400, height: 900 }, colorScheme: 'dark' });
  must(await brightness(dark) < 0.25, 'dark mode is light');
  const contrast = await dark.evaluate(() => {
    const level = (css) => {
      const canvas = new OffscreenCanvas(1, 1).getContext('2d');
      canvas.fillStyle = css;
      canvas.fillRect(0, 0, 1, 1);
      const linear = [...canvas.getImageData(0, 0, 1, 1).data].slice(0, 3)
        .map((v) => v / 255).map((v) => (v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4));
      return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2];
    };
    const back = [document.body, document.documentElement].map((e) => getComputedStyle(e).backgroundColor)
      .find((c) => !/, 0\)|transparent/.test(c));
    const [a, b] = [level(getComputedStyle(document.querySelector('h1')).color), level(back)];
    return (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
  });
  must(contrast > 4.5, `the verdict's contrast in the dark is ${contrast.toFixed(1)}`);

  const narrow = await open({ viewport: { width: 390, height: 844 }, hasTouch: true, isMobile: true });
  must(await overflow(narrow) <= 0, `it scrolls sideways at 390 px by ${await overflow(narrow)}`);
  const top = await narrow.locator('h1').boundingBox();
  must(top && top.y + top.height <= 844, 'the verdict is not on a telephone\'s first screen');
  return { file, bad, plots, sliders };
}

for (const seen of await Promise.all(files.map(look))) console.log(JSON.stringify(seen));
await browser.close();
