/**
 * When a web seed is called: once nobody who is connected could give what is wanted for a while, one at a time.
 *
 * It costs its owner money, and knows nothing of how busy it is; so it waits until replicas were looked for. Once it is linked, the
 * scheduler asks it for what no replica gives in time (a peer of last resort). A folder that cannot be reached, or lacks an image, is
 * left alone for longer each time; one that gave wrong bytes for good.
 */

import type { Clock, Log } from '../environment.ts'
import type { FetchEngine, LinkEvents } from './fetch-engine.ts'
import { IMAGE_TIMEOUT_MS, MAX_WEB_SEED_PAUSES, WEB_SEED_PATIENCE_MS } from './limits.ts'
import type { ReplicaLink } from './replica-link.ts'
import type { WebNetwork } from './web-network.ts'
import { WebSeedClient } from './web-seed-client.ts'

export interface WebSeedsComponents {
  network: WebNetwork
  engine: FetchEngine
  /** URLs that releases of this image name. */
  seedsOf(image: string): string[]
  idOf(image: number): string
  /** What happens on a connection. */
  events(peer: string): LinkEvents
  clock: Clock
  log: Log
}

/** An image whose blocks are wanted. */
interface WantedImage {
  readonly number: number
  readonly id: string
}

interface Need {
  sinceMs: number
  lastMs: number
}

/** A need that was not told of for so long is over: replicas came. */
const NEED_GAP_MS = 3_000
const FIRST_PAUSE_MS = 2_000
const PAUSE_GROWTH = 4
const MAX_PAUSE_MS = 10 * 60_000
const PREFIX = 'web:'

/** Whether a peer of the swarm is a web seed, which other peers cannot call by this name. */
export function isWebSeed(peer: string): boolean {
  return peer.startsWith(PREFIX)
}

export class WebSeeds {
  readonly #components: WebSeedsComponents
  readonly #needs = new Map<number, Need>()
  /** By URL, or URL and image. */
  readonly #pauses = new Map<string, { untilMs: number; failures: number }>()
  #stopped = false

  constructor(components: WebSeedsComponents) {
    this.#components = components
  }

  stop(): void {
    this.#stopped = true
  }

  /** Nobody who is connected can give what is wanted of this image. To be called again while that is so. */
  needed(image: WantedImage): void {
    if (this.#stopped) return
    const { engine, seedsOf, clock } = this.#components
    const nowMs = clock.monotonicMs()
    const before = this.#needs.get(image.number)
    const goesOn = before !== undefined && nowMs - before.lastMs <= NEED_GAP_MS
    const sinceMs = goesOn ? before.sinceMs : nowMs
    this.#needs.set(image.number, { sinceMs, lastMs: nowMs })
    if (nowMs - sinceMs < WEB_SEED_PATIENCE_MS) return
    for (const url of seedsOf(image.id)) {
      if (engine.isLiar(PREFIX + url) || this.#isPaused(url, nowMs) || this.#isPaused(url + image.id, nowMs)) continue
      const known = engine.client(PREFIX + url)
      if (known?.awaits(image.number)) return
      // It has been asked, and cannot give all of it.
      if (known?.hasOpened(image.number) || known?.hasRoom === false) continue
      this.#open(known ?? this.#link(url), url, image)
      return
    }
  }

  #open(client: ReplicaLink, url: string, image: WantedImage): void {
    client.open(image.number, image.id, false)
    this.#components.clock.after(IMAGE_TIMEOUT_MS, () => {
      if (client.ended || !client.awaits(image.number)) return
      client.release(image.number)
      this.#failed(url + image.id)
    })
  }

  #link(url: string): ReplicaLink {
    const { engine, network, events, idOf, log } = this.#components
    const peer = PREFIX + url
    const own = events(peer)
    log.info('no replica can give what is wanted: a web seed is asked', { url })
    return engine.linkLastResort(peer, events => new WebSeedClient(peer, url, { network, events }), {
      ...own,
      image: (number, answer) => {
        if (answer.root.byteLength === 0) this.#failed(url + idOf(number))
        return own.image(number, answer)
      },
      block: (image, block, body, compressed, wireBytes) => {
        this.#pauses.delete(url)
        return own.block(image, block, body, compressed, wireBytes)
      },
      ended: error => {
        own.ended(error)
        if (error === undefined) return
        // Not proved by a hash, but nobody else wrote it.
        if (error.code === 'WEB_SEED_INVALID') engine.accuse(peer, error)
        else log.info('a web seed is of no use now', { url, code: error.code, message: error.message })
        this.#failed(url)
      }
    })
  }

  #isPaused(what: string, nowMs: number): boolean {
    return (this.#pauses.get(what)?.untilMs ?? 0) > nowMs
  }

  #failed(what: string): void {
    const failures = (this.#pauses.get(what)?.failures ?? 0) + 1
    const pauseMs = Math.min(MAX_PAUSE_MS, FIRST_PAUSE_MS * PAUSE_GROWTH ** (failures - 1))
    this.#pauses.delete(what)
    this.#pauses.set(what, { untilMs: this.#components.clock.monotonicMs() + pauseMs, failures })
    if (this.#pauses.size <= MAX_WEB_SEED_PAUSES) return
    const [oldest] = this.#pauses.keys()
    if (oldest !== undefined) this.#pauses.delete(oldest)
  }
}
