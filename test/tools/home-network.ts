/**
 * A home with one line to the outside: volunteers on a switch, and beyond a router the peers that they boot from.
 *
 *     volunteers ── switch ── router ── line ── hub (directory), replicas
 *                             relays, with half a round trip each way; narrow on the way in
 *
 * The router relays connections (bench/tools/wanlink.mjs), because the kernel at hand may not be able to delay packets; the rate, and the
 * queue in front of it, are the kernel's. Peers outside announce the router's address at home, so nobody finds them but through
 * the directory, and volunteers find each other by asking their network.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import { Switch, shell, type Through } from './lan.ts'
import { Line } from './line.ts'
import { Peer } from './peers.ts'
import { waitUntil } from './wait.ts'

export interface HomeLine {
  rttMs: number
  downMbit: number
}

const FIRST_PORT = 7100
const REPLICATE_TIMEOUT_MS = 300_000
const JOIN_TIMEOUT_MS = 60_000

const HOME = '192.168.77'
const BEYOND = '192.168.78'
const ROUTER = 254
const TO_ITSELF = [
  'nft add table ip outside',
  "nft 'add chain ip outside out { type nat hook output priority -100; }'",
  `nft add rule ip outside out ip daddr ${HOME}.${ROUTER} dnat to ${BEYOND}.1`
].join(' && ')

export class HomeNetwork {
  readonly hub: Peer
  /** The first one is the publisher. */
  readonly replicas: Peer[]
  readonly #switch: Switch
  readonly #router: Through
  readonly #line: Line
  #hosts = 0

  private constructor(parts: { home: Switch; router: Through; line: Line; hub: Peer; replicas: Peer[] }) {
    this.#switch = parts.home
    this.#router = parts.router
    this.#line = parts.line
    this.hub = parts.hub
    this.replicas = parts.replicas
  }

  /**
   * With so many replicas outside, which have nothing yet.
   *
   * @param options - `publisherHome`: of a peer that has published, which is the first of them
   */
  static async build(options: { line: HomeLine; replicas: number; publisherHome?: string }): Promise<HomeNetwork> {
    const { line, replicas, publisherHome } = options
    const home = await Switch.create()
    const router = await home.plugIn('the router', 'eth0')
    const beyond = await Switch.createIn(router.through, 'the network outside')
    await beyond.connect(router.holder, 'eth1')
    await address(router.through, 'eth0', `${HOME}.${ROUTER}`)
    await address(router.through, 'eth1', `${BEYOND}.${ROUTER}`)
    const outside = (await beyond.plugIn('the host outside', 'eth0')).through
    await address(outside, 'eth0', `${BEYOND}.1`)
    // Those outside reach each other without the line, by the addresses that they announce at home.
    await shell(outside, `ip route add default dev eth0 && ${TO_ITSELF}`)
    await shell(outside, `tc qdisc add dev eth0 root tbf rate ${line.downMbit}mbit burst 32kb latency 200ms`)
    const ports = Array.from({ length: replicas + 1 }, (_, n) => FIRST_PORT + n)
    const pairs = ports.map(port => ({ listenPort: port, toPort: port }))
    const between = { through: router.through, listen: `${HOME}.${ROUTER}`, to: `${BEYOND}.1` }
    const way = await Line.open({ rttMs: line.rttMs, downMbit: 0, upMbit: 0 }, pairs, between)
    const far = async (port: number, serve: string, more: { home?: string; args: string[] }) =>
      await Peer.start({
        through: outside,
        listen: `/ip4/${BEYOND}.1/tcp/${port}`,
        config: `[directory]\nserve = "${serve}"\n`,
        ...more,
        args: ['--announce', `/ip4/${HOME}.${ROUTER}/tcp/${port}`, ...more.args]
      })
    const hub = await far(ports[0]!, 'always', { args: [] })
    const args = ['--bootstrap', `/ip4/${BEYOND}.1/tcp/${ports[0]}/p2p/${hub.id}`]
    const peers: Peer[] = []
    for (const [n, port] of ports.slice(1).entries()) {
      const folder = n === 0 && publisherHome !== undefined ? { home: publisherHome } : {}
      peers.push(await far(port, 'never', { ...folder, args }))
    }
    await peers[0]!.joined()
    return new HomeNetwork({ home, router: router.through, line: way, hub, replicas: peers })
  }

  get publisher(): Peer {
    return this.replicas[0]!
  }

  get appliance(): string {
    return `${this.publisher.publisher}/grid`
  }

  /** Waits until every replica has this version, and the directory names all of them. */
  async complete(version: string): Promise<void> {
    for (const replica of this.replicas.slice(1)) {
      await replica.json(['replicate', `${this.appliance}@${version}`, '--wait'], { timeoutMs: REPLICATE_TIMEOUT_MS })
    }
    await waitUntil('the directory to name all replicas', async () => {
      const rows = await this.publisher.json(['releases', this.appliance])
      return rows.some(row => row.version === version && (row.replicas ?? 0) >= this.replicas.length)
    })
  }

  /** Peers at home with nothing, which have joined and found each other. */
  async volunteers(count: number): Promise<Peer[]> {
    const bootstrap = `/ip4/${HOME}.${ROUTER}/tcp/${FIRST_PORT}/p2p/${this.hub.id}`
    const peers: Peer[] = []
    for (let n = 0; n < count; n++) {
      const host = `${HOME}.${++this.#hosts}`
      const { through } = await this.#switch.plugIn(`host ${host}`, 'eth0')
      await address(through, 'eth0', host)
      await shell(through, 'ip route add default dev eth0')
      peers.push(await Peer.start({ through, listen: `/ip4/${host}/tcp/0`, args: ['--bootstrap', bootstrap] }))
    }
    // The hub, and each other.
    await Promise.all(peers.map(peer => peer.joined(count, JOIN_TIMEOUT_MS)))
    // What joining sets in motion is over before anything is counted.
    await sleep(1000)
    return peers
  }

  /** The peers outside, and the line to them. */
  async stop(): Promise<void> {
    await Promise.all([this.hub, ...this.replicas].map(peer => peer.stop()))
    await this.#line.close()
  }

  /** Bytes that came in over the line so far, by the router's own count, all headers included. */
  async crossed(): Promise<number> {
    const links = JSON.parse(await shell(this.#router, 'ip -j -s link show eth1')) as {
      stats64: { rx: { bytes: number } }
    }[]
    return links[0]!.stats64.rx.bytes
  }
}

async function address(through: Through, device: string, ip: string): Promise<void> {
  await shell(through, `ip addr add ${ip}/24 dev ${device} && ip link set ${device} up`)
}
