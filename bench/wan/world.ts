/**
 * The peers of the wan bench, and the line between them.
 *
 *     hub (holds the directory, has no image) ─┐
 *     two replicas (one is the publisher) ─────┼── line ── volunteers (--no-listen)
 *
 * Each of the three announces only its end of the line, so that every volunteer reaches them over it. The replicas only ask the
 * directory: a volunteer that has joined is connected with the hub and with no replica. The hub and the replicas reach each other
 * directly.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import { freePort, Line, type LineKind, type Pair, PERFECT } from '../../test/tools/line.ts'
import { Peer } from '../../test/tools/peers.ts'
import { waitUntil } from '../../test/tools/wait.ts'

const SETUP_TIMEOUT_MS = 300_000

/** A peer behind the line: where it listens, and what it announces. */
interface FarPeer {
  peer: Peer
  pair: Pair
}

export interface WorldOptions {
  v1: string
  /** Arguments of `rowan publish` beside image and name. */
  publishArgs?: string[]
}

export class World {
  readonly #far: FarPeer[] = []
  #hubDirect = ''
  #line: Line | undefined
  readonly #options: WorldOptions

  private constructor(options: WorldOptions) {
    this.#options = options
  }

  /** Hub and replicas, both with the whole of v1, and nothing else. */
  static async build(options: WorldOptions): Promise<World> {
    const world = new World(options)
    const pairs: Pair[] = []
    for (let n = 0; n < 3; n++) pairs.push({ listenPort: await freePort(), toPort: await freePort() })
    const [hubPair, ...replicaPairs] = pairs as [Pair, Pair, Pair]
    world.#line = await Line.open(PERFECT, pairs)
    const hub = await farPeer(hubPair, 'always', [])
    world.#hubDirect = `/ip4/127.0.0.1/tcp/${hubPair.toPort}/p2p/${hub.id}`
    world.#far.push({ peer: hub, pair: hubPair })
    for (const pair of replicaPairs) {
      world.#far.push({ peer: await farPeer(pair, 'never', ['--bootstrap', world.#hubDirect]), pair })
    }
    await world.publisher.joined()
    await world.publish(options.v1, 'v1')
    return world
  }

  /** Arguments of `rowan publish` beside image and name. */
  get publishArgs(): string[] {
    return this.#options.publishArgs ?? []
  }

  get hub(): Peer {
    return this.#far[0]!.peer
  }

  get replicas(): Peer[] {
    return this.#far.slice(1).map(({ peer }) => peer)
  }

  get publisher(): Peer {
    return this.replicas[0]!
  }

  get appliance(): string {
    return `${this.publisher.publisher}/grid`
  }

  get line(): Line {
    if (this.#line === undefined) throw new Error('there is no line')
    return this.#line
  }

  /** Publishes a version at the first replica and completes it at the second. */
  async publish(image: string, version: string): Promise<void> {
    await this.setLine(PERFECT)
    const args = this.publishArgs
    await this.publisher.json(['publish', image, `grid@${version}`, ...args], { timeoutMs: SETUP_TIMEOUT_MS })
    const reference = `${this.appliance}@${version}`
    await this.replicas[1]!.json(['replicate', reference, '--wait'], { timeoutMs: SETUP_TIMEOUT_MS })
    await this.#announced(reference)
  }

  /** A line of another kind in the place of the present one; whoever was connected over that one is not any more. */
  async setLine(kind: LineKind): Promise<Line> {
    await this.#line?.close()
    const pairs = this.#far.map(({ pair }) => pair)
    this.#line = await Line.open(kind, pairs)
    return this.#line
  }

  /** A peer with nothing, joined over the line, connected with the hub alone. */
  async volunteer(options: { config?: string; listen?: boolean } = {}): Promise<Peer> {
    const { config, listen = false } = options
    const peer = await Peer.start({
      args: ['--bootstrap', this.#hubAddress],
      ...(!listen && { listen: false as const }),
      ...(config !== undefined && { config })
    })
    await peer.joined()
    // What joining sets in motion, such as the first look at the neighbourhood, is over before a clock starts.
    await sleep(Math.max(1000, 10 * this.line.kind.rttMs))
    const { exchanging } = await peer.json(['status'])
    if (exchanging.length > 0) throw new Error('the volunteer is connected with a replica before it wants anything')
    return peer
  }

  get #hubAddress(): string {
    const { peer, pair } = this.#far[0]!
    return `/ip4/127.0.0.1/tcp/${pair.listenPort}/p2p/${peer.id}`
  }

  /** Waits until the directory names both replicas. */
  async #announced(reference: string): Promise<void> {
    await waitUntil(
      'the directory to name both replicas',
      async () => {
        const rows = (await this.publisher.json(['releases', this.appliance])) as {
          version: string
          replicas: number
        }[]
        return rows.some(({ version, replicas }) => reference.endsWith(`@${version}`) && replicas >= 2)
      },
      { timeoutMs: 60_000, details: () => this.hub.process.tail() }
    )
  }
}

async function farPeer({ listenPort, toPort }: Pair, serve: string, args: string[]): Promise<Peer> {
  return await Peer.start({
    config: `[directory]\nserve = "${serve}"\n`,
    args: ['--announce', `/ip4/127.0.0.1/tcp/${listenPort}`, ...args],
    listen: `/ip4/127.0.0.1/tcp/${toPort}`
  })
}
