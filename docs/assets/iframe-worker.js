// Workers for a page that is opened as a file, where browsers refuse them: the script runs in a hidden frame instead.
// The search of the site uses one. Pages that come from a server keep the browser's own workers.
if (location.protocol === "file:") {
  window.Worker = class extends EventTarget {
    constructor(address) {
      super()
      this.waiting = []
      this.frame = document.createElement("iframe")
      this.frame.hidden = true
      document.documentElement.append(this.frame)
      const inside = this.frame.contentWindow
      inside.postMessage = (data) => this.dispatchEvent(new MessageEvent("message", { data }))
      const script = inside.document.createElement("script")
      script.src = new URL(address, document.baseURI)
      script.onload = () => {
        for (const data of this.waiting.splice(0)) this.send(data)
        this.waiting = null
      }
      script.onerror = () => this.dispatchEvent(new ErrorEvent("error", { message: `${script.src} cannot be loaded` }))
      inside.document.documentElement.append(script)
    }

    postMessage(data) {
      if (this.waiting) this.waiting.push(data)
      else this.send(data)
    }

    send(data) {
      this.frame.contentWindow.dispatchEvent(new MessageEvent("message", { data }))
    }

    terminate() {
      this.frame.remove()
    }
  }
}
