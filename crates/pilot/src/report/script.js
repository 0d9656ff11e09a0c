// Values under the pointer, and the threshold slider. Without script the page says the same, only quietly.
(() => {
  const tip = document.createElement('div');
  tip.className = 'tip';
  tip.hidden = true;
  document.body.append(tip);
  let lit = null;
  const clear = () => { tip.hidden = true; lit?.classList.remove('lit'); lit = null; };
  for (const svg of document.querySelectorAll('svg')) {
    const hits = [...svg.querySelectorAll('[data-tip]')];
    if (!hits.length) continue;
    const near = (event) => {
      const at = new DOMPoint(event.clientX, event.clientY).matrixTransform(svg.getScreenCTM().inverse());
      let best = null, least = 30 * 30;
      for (const hit of hits) {
        const x = hit.cx.baseVal.value - at.x, y = hit.cy.baseVal.value - at.y;
        const far = x * x + y * y;
        if (far < least) { least = far; best = hit; }
      }
      if (!best) return clear();
      if (lit !== best) { lit?.classList.remove('lit'); best.classList.add('lit'); lit = best; }
      tip.textContent = best.dataset.tip;
      tip.hidden = false;
      const box = best.getBoundingClientRect(), room = document.documentElement.clientWidth;
      const left = Math.min(Math.max(8, box.left + box.width / 2 - tip.offsetWidth / 2), room - tip.offsetWidth - 8);
      const above = box.top - tip.offsetHeight - 8;
      tip.style.left = `${left + scrollX}px`;
      tip.style.top = `${(above < 4 ? box.bottom + 8 : above) + scrollY}px`;
    };
    svg.addEventListener('pointermove', near);
    svg.addEventListener('pointerdown', near);
    svg.addEventListener('pointerleave', clear);
  }
  for (const slider of document.querySelectorAll('.slider')) {
    const steps = JSON.parse(slider.dataset.steps), input = slider.querySelector('input');
    const mark = slider.closest('figure').querySelector('svg .cursor'), out = slider.querySelector('output');
    const show = () => {
      const step = steps[input.value];
      out.textContent = step.says;
      mark.setAttribute('cx', step.x);
      mark.setAttribute('cy', step.y);
      input.setAttribute('aria-valuetext', step.says);
    };
    input.addEventListener('input', show);
    slider.hidden = false;
    show();
  }
})();
