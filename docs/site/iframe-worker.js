// Browsers start no worker from a file:// page, and the search is one: there it runs in a hidden frame instead.
// Material for MkDocs looks for the name IFrameWorker; its own plugin would fetch such a file from a network.
window.IFrameWorker = class extends EventTarget {
  constructor(url) {
    super();
    const frame = document.createElement("iframe");
    frame.hidden = true;
    this.loaded = new Promise((resolve) => {
      frame.onload = () => {
        const inside = frame.contentWindow;
        const load = (source) =>
          new Promise((done, failed) => {
            const script = inside.document.createElement("script");
            script.src = source;
            script.onload = done;
            script.onerror = failed;
            inside.document.body.append(script);
          });
        inside.postMessage = (data) => this.dispatchEvent(new MessageEvent("message", { data }));
        inside.importScripts = (...sources) =>
          sources.reduce((before, source) => before.then(() => load(source)), Promise.resolve());
        resolve(load(url).then(() => inside));
      };
    });
    document.body.append(frame);
  }

  postMessage(data) {
    this.loaded.then((inside) => inside.dispatchEvent(new MessageEvent("message", { data })));
  }
};
if (location.protocol === "file:") window.Worker = window.IFrameWorker;
