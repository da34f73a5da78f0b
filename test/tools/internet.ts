/**
 * A small Internet for a test: hosts with public addresses, and homes behind routers that translate addresses.
 *
 * Nothing of it leads out, so any address can be used; these are public by every rule. A router is the kernel's own translation
 * (nftables' masquerade): what comes in without having been asked for is refused, as at home.
 */
import { Switch, shell, type Through } from './lan.ts'

export interface InternetHost {
  address: string
  through: Through
}

/** All in one broadcast domain, so there are no routes to learn. */
const ON_LINK = 'ip link set eth0 up && ip route add default dev eth0'

export class TestInternet {
  readonly #switch: Switch
  #hosts = 0

  private constructor(theSwitch: Switch) {
    this.#switch = theSwitch
  }

  static async create(): Promise<TestInternet> {
    return new TestInternet(await Switch.create())
  }

  /** A host that anybody can dial, each in a network of its own: 51.1.0.1, 52.1.0.1, … */
  async host(): Promise<InternetHost> {
    const address = this.#nextAddress()
    const { through } = await this.#switch.plugIn(`host ${address}`, 'eth0')
    await shell(through, `ip addr add ${address}/32 dev eth0 && ${ON_LINK}`)
    return { address, through }
  }

  /** A home with one router and one host; `router` is what the Internet sees, and may run what a router runs. */
  async home(): Promise<{ host: InternetHost; router: InternetHost & { inside: string } }> {
    const address = this.#nextAddress()
    const inside = `192.168.${this.#hosts}.1`
    const { through, holder } = await this.#switch.plugIn(`router ${address}`, 'eth0')
    await shell(through, `ip addr add ${address}/32 dev eth0 && ${ON_LINK}`)
    const home = await Switch.createIn(through, `home of ${address}`)
    await home.connect(holder, 'home0')
    await shell(through, `ip addr add ${inside}/24 dev home0 && ip link set home0 up && ${TRANSLATE}`)
    const host = { address: `192.168.${this.#hosts}.2`, through: await this.#hostAtHome(home, inside) }
    return { host, router: { address, through, inside } }
  }

  async #hostAtHome(home: Switch, inside: string): Promise<Through> {
    const address = inside.replace(/1$/, '2')
    const { through } = await home.plugIn(`host ${address}`, 'eth0')
    const route = `ip link set eth0 up && ip route add default via ${inside}`
    await shell(through, `ip addr add ${address}/24 dev eth0 && ${route}`)
    return through
  }

  #nextAddress(): string {
    return `${50 + ++this.#hosts}.1.0.1`
  }
}

const TRANSLATE = [
  'echo 1 > /proc/sys/net/ipv4/ip_forward',
  'nft add table ip home',
  "nft 'add chain ip home post { type nat hook postrouting priority srcnat; }'",
  'nft add rule ip home post oifname eth0 masquerade',
  "nft 'add chain ip home pre { type nat hook prerouting priority dstnat; }'"
].join(' && ')
