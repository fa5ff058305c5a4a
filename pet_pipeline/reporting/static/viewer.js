// The three-plane viewer: NiiVue unpacked when it is first looked at; four canvases share one cross-hair.
(() => {
  const section = document.getElementById("viewer");
  const store = document.getElementById("viewer-data");
  if (!section || !store) return;
  const one = (selector) => section.querySelector(selector);
  const data = JSON.parse(store.textContent);
  const message = one(".viewer-message");
  const names = ["reference", "prediction", "difference", "uncertainty"];
  const views = {};
  let current = null;  // {volumes: {name: {header, values, slope}}, case, method}
  let place = [0, 0, 0];  // mm
  let started = null;

  const say = (text) => { message.hidden = !text; message.textContent = text; };
  const bytesOf = (text) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
  const unpacked = async (bytes) => {
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
    return new Response(stream).arrayBuffer();
  };

  const library = async () => {
    const code = await unpacked(bytesOf(document.getElementById("viewer-library").textContent.trim()));
    const url = URL.createObjectURL(new Blob([code], { type: "text/javascript" }));
    await new Promise((resolve, reject) => {
      const script = document.createElement("script");
      script.src = url;
      script.onload = resolve;
      script.onerror = () => reject(new Error("the viewer's library did not load"));
      document.head.append(script);
    });
    URL.revokeObjectURL(url);
  };

  // NIfTI-1, little-endian int16, as viewer.py writes it
  const volumeOf = (buffer) => {
    const view = new DataView(buffer);
    const shape = [0, 1, 2].map((i) => view.getInt16(42 + 2 * i, true));
    const spacing = [0, 1, 2].map((i) => view.getFloat32(80 + 4 * i, true));
    const origin = [0, 1, 2].map((i) => view.getFloat32(280 + 16 * i + 12, true));
    return { buffer, shape, spacing, origin, slope: view.getFloat32(112, true), values: new Int16Array(buffer, 352) };
  };
  const voxel = (volume) => place.map((mm, i) => Math.min(Math.max(Math.round((mm - volume.origin[i]) / volume.spacing[i]), 0), volume.shape[i] - 1));
  const valueAt = (volume) => {
    const [x, y, z] = voxel(volume);
    return volume.values[x + volume.shape[0] * (y + volume.shape[1] * z)] * volume.slope;
  };
  const minus = (first, second) => {
    const buffer = second.buffer.slice(0);
    const result = volumeOf(buffer);
    for (let i = 0; i < result.values.length; i += 1) result.values[i] = first.values[i] - second.values[i];
    return result;
  };

  // Stripes, diagonal in every plane, over the least certain part of the body: 0 nothing, 2 a stripe, between them its edge
  const stripes = (deviation, prediction) => {
    const { floor, share, air } = data.doubt;
    const value = (i) => prediction.values[i] * prediction.slope;
    const ratio = (i) => (deviation.values[i] * deviation.slope) / Math.max(value(i), floor);
    const body = Float32Array.from([...prediction.values.keys()].filter((i) => value(i) > air), ratio).sort();
    const limit = body[Math.floor((1 - share) * body.length)];
    const result = volumeOf(deviation.buffer.slice(0));
    const [width, height] = result.shape;
    const doubtful = Uint8Array.from(result.values, (_, i) => Number(value(i) > air && ratio(i) > limit));
    const beside = [1, width, width * height].flatMap((step) => [step, -step]);
    for (let i = 0; i < result.values.length; i += 1) {
      const across = (i % width) + (Math.floor(i / width) % height) + Math.floor(i / (width * height));
      const among = beside.filter((step) => doubtful[i + step]).length >= 3;  // single voxels are only specks
      result.values[i] = across % 4 === 0 && doubtful[i] && among ? 2 : 0;
    }
    return result;
  };

  const colourMaps = (viewer) => {
    const [low, high] = data.inverted ? [255, 0] : [0, 255];
    viewer.addColormap("report-grey", { R: [low, high], G: [low, high], B: [low, high], A: [255, 255], I: [0, 255] });
    viewer.addColormap("report-stripes", { R: [255, 255, 0], G: [255, 255, 0], B: [255, 255, 0], A: [0, 210, 255], I: [0, 90, 255] });
    for (const [name, stops] of Object.entries(data.colours)) {
      const last = stops.length - 1;
      const alpha = stops.map((_, i) => {
        const away = name === "difference" ? Math.abs(i - last / 2) / (last / 2) : i / last;
        return Math.round(255 * Math.min(1, away * 2.5));  // what is small lets the anatomy through
      });
      viewer.addColormap(`report-${name}`, {
        R: stops.map((c) => c[0]), G: stops.map((c) => c[1]), B: stops.map((c) => c[2]), A: alpha,
        I: stops.map((_, i) => Math.round((255 * i) / last)),
      });
    }
  };

  const image = (volume, name, colormap, low, high, opacity) => niivue.NVImage.loadFromUrl({
    url: `${name}.nii`, name: `${name}.nii`, buffer: volume.buffer.slice(0), colormap, opacity, cal_min: low, cal_max: high, trustCalMinMax: false,
  });

  const build = async () => {
    for (const name of names) {
      const canvas = one(`.v-${name} canvas`);
      const viewer = new niivue.Niivue({
        backColor: [1, 1, 1, 1], crosshairColor: [0.85, 0.28, 0.06, 0.9], crosshairWidth: 3, crosshairWidthUnit: "mm", crosshairGap: 22, fontColor: [0.35, 0.4, 0.45, 1],
        show3Dcrosshair: false, isRadiologicalConvention: true, sagittalNoseLeft: true, isColorbar: false, isOrientCube: false,
        dragAndDropEnabled: false, loadingText: "", multiplanarShowRender: 0, multiplanarLayout: 3, multiplanarPadPixels: 6, logLevel: "error",
        isResizeCanvas: true, scrollRequiresFocus: true, fontSizeScaling: 0.3, fontMinPx: 9, isAntiAlias: true,
      });
      await viewer.attachToCanvas(canvas);
      colourMaps(viewer);
      viewer.setSliceType(viewer.sliceTypeMultiplanar);
      viewer.onLocationChange = (found) => { if (found && found.mm && current) { place = Array.from(found.mm).slice(0, 3); tell(); } };
      views[name] = viewer;
    }
    for (const name of names) views[name].broadcastTo(names.filter((other) => other !== name).map((other) => views[other]), { "2d": true, "3d": false, zoomPan: true });
  };

  const setting = (name) => Number(one(`.v-${name}`).value);
  const write = (input, text) => { input.parentElement.querySelector("output").textContent = text; };

  const tell = () => {
    for (const name of names) {
      const volume = current.volumes[name];
      const sign = name === "difference" ? "exceptZero" : "auto";
      const text = volume ? valueAt(volume).toLocaleString("en", { minimumFractionDigits: data.digits, maximumFractionDigits: data.digits, signDisplay: sign }).replace("-", "−") : "";
      one(`.v-${name} .v-value`).textContent = text && `${text} ${data.unit}`;
    }
    ["x", "y", "z"].forEach((axis, i) => {
      const input = one(`.v-${axis}`);
      input.value = String(Math.round(place[i]));
      write(input, `${Math.round(place[i])} mm`);
    });
  };

  const move = (mm) => {
    place = mm;
    for (const name of names) {
      const viewer = views[name];
      if (!viewer.volumes.length) continue;
      viewer.scene.crosshairPos = viewer.mm2frac(mm);
      viewer.drawScene();
    }
    tell();
  };

  const scale = () => {
    const upper = setting("window");
    const difference = setting("difference");
    const opacity = setting("opacity");
    for (const name of names) {
      const viewer = views[name];
      if (!viewer.volumes.length) continue;
      viewer.volumes[0].cal_max = upper;
      if (name === "difference") {
        viewer.volumes[1].cal_min = -difference;
        viewer.volumes[1].cal_max = difference;
      }
      if (viewer.volumes[1]) viewer.volumes[1].opacity = opacity;
      viewer.updateGLVolume();
    }
    const round = (value) => value.toLocaleString("en", { maximumFractionDigits: data.digits });
    write(one(".v-window"), `0 to ${round(upper)}`);
    write(one(".v-difference"), `±${round(difference)}`);
    write(one(".v-opacity"), `${Math.round(100 * opacity)} %`);
  };

  const show = async (slug, method) => {
    const found = data.cases.find((entry) => entry.slug === slug) ?? data.cases[0];
    const index = Math.max(found.methods.indexOf(method), 0);
    const isNew = !current || current.case !== found;
    const volumes = isNew ? {} : { reference: current.volumes.reference };
    for (const [name, key] of [["reference", "reference"], ["prediction", `prediction${index}`], ["uncertainty", `uncertainty${index}`]]) {
      if (!volumes[name] && found.volumes[key]) volumes[name] = volumeOf(await unpacked(bytesOf(found.volumes[key])));
    }
    volumes.difference = minus(volumes.prediction, volumes.reference);
    current = { case: found, method: found.methods[index], volumes };
    one(".v-case").value = found.slug;
    const methods = one(".v-method");
    if (methods) {
      methods.replaceChildren(...found.methods.map((name) => new Option(name, name, false, name === current.method)));
    }
    one(".v-prediction figcaption b").textContent = `Prediction: ${current.method}`;
    one(".v-uncertainty").hidden = !volumes.uncertainty;
    const upper = setting("window");
    for (const name of names) {
      const viewer = views[name];
      for (const old of [...viewer.volumes]) viewer.removeVolume(old);
      if (!volumes[name]) continue;
      const base = name === "prediction" || name === "uncertainty" ? volumes.prediction : volumes.reference;
      viewer.addVolume(await image(base, `${name}-base`, "report-grey", 0, upper, 1));
      if (name === "difference" || name === "uncertainty") {
        const [low, high] = name === "difference" ? [-setting("difference"), setting("difference")] : [0, data.uncertainty];
        viewer.addVolume(await image(volumes[name], name, `report-${name}`, low, high, setting("opacity")));
      }
      if (name === "uncertainty") {
        const striped = stripes(volumes.uncertainty, volumes.prediction);
        viewer.addVolume(await image(striped, "stripes", "report-stripes", 0, 2 * striped.slope, 1));
      }
    }
    ["x", "y", "z"].forEach((axis, i) => {
      const { origin, spacing, shape } = volumes.reference;
      const input = one(`.v-${axis}`);
      input.min = String(Math.ceil(origin[i]));
      input.max = String(Math.floor(origin[i] + spacing[i] * (shape[i] - 1)));
    });
    scale();
    move(isNew ? home() : place);
  };

  const home = () => {
    if (current.case.focus) return [...current.case.focus];
    const { origin, spacing, shape } = current.volumes.reference;
    return origin.map((from, i) => from + (spacing[i] * (shape[i] - 1)) / 2);
  };

  const start = async (slug) => {
    if (started) return started;
    started = (async () => {
      const test = document.createElement("canvas").getContext("webgl2");
      if (!test) return say("This browser has no WebGL2, which the viewer needs: the pictures below show the same cases.");
      test.getExtension("WEBGL_lose_context")?.loseContext();
      if (typeof DecompressionStream === "undefined") return say("This browser is too old for the viewer: the pictures below show the same cases.");
      say("Unpacking the viewer …");
      try {
        await library();
        one(".viewer").hidden = false;
        await build();
        await show(slug ?? data.cases[0].slug);
        say("");
        section.dataset.ready = "true";
      } catch (error) {
        one(".viewer").hidden = true;
        say(`The viewer could not start (${error.message}): the pictures below show the same cases.`);
      }
      return undefined;
    })();
    return started;
  };

  new IntersectionObserver((entries, watch) => {
    if (entries.some((entry) => entry.isIntersecting)) { watch.disconnect(); start(); }
  }, { rootMargin: "200px" }).observe(section);
  for (const button of document.querySelectorAll(".open-viewer")) {
    button.addEventListener("click", async () => {
      section.scrollIntoView();
      const fresh = !started;
      await start(button.dataset.case);
      if (!fresh && section.dataset.ready) await show(button.dataset.case, current.method);
      one(".v-case").focus({ preventScroll: true });
    });
  }
  const again = (slug, method) => show(slug, method).catch((error) => say(`This case cannot be shown (${error.message}).`));
  one(".v-case").addEventListener("change", (event) => again(event.target.value, current.method));
  one(".v-method")?.addEventListener("change", (event) => again(current.case.slug, event.target.value));
  for (const name of ["window", "difference", "opacity"]) one(`.v-${name}`).addEventListener("input", () => { if (current) scale(); });
  ["x", "y", "z"].forEach((axis, i) => one(`.v-${axis}`).addEventListener("input", (event) => {
    const next = [...place];
    next[i] = Number(event.target.value);
    move(next);
  }));
  one(".v-home").addEventListener("click", () => move(home()));
})();
