/**
 * A network of its own for a test: hosts on one switch, in namespaces that end with the test.
 *
 * A user namespace makes it possible without being root; inside it, one network namespace is the switch and each host
 * has another. What holds them is a process that waits for its input to end, so nothing outlives the test.
 */
import { type RunningProcess, run, start } from './processes.ts'

/** What a host's commands are run through. */
export type Through = string[]

const BRIDGE = 'ip link add br0 type bridge && ip link set br0 up && echo ready && exec cat'

export class TestLan {
  readonly #switch: Switch
  #hosts = 0

  private constructor(theSwitch: Switch) {
    this.#switch = theSwitch
  }

  /** A switch without hosts. */
  static async create(): Promise<TestLan> {
    return new TestLan(await Switch.create())
  }

  /** Plugs in one more host, 192.168.77.N. */
  async host(): Promise<{ address: string; through: Through }> {
    const address = `192.168.77.${++this.#hosts}`
    const { through } = await this.#switch.plugIn(`host ${address}`, 'eth0')
    await shell(through, `ip addr add ${address}/24 dev eth0 && ip link set eth0 up && ip route add default dev eth0`)
    return { address, through }
  }
}

/** A namespace in which others are joined. */
export class Switch {
  readonly #process: RunningProcess
  #ports = 0

  private constructor(process: RunningProcess) {
    this.#process = process
  }

  static async create(): Promise<Switch> {
    const process = start('unshare', ['--user', '--map-root-user', '--net', 'sh', '-c', BRIDGE], { name: 'a switch' })
    await process.waitForOutput(/ready/)
    return new Switch(process)
  }

  /** Another switch, beside a namespace that exists. */
  static async createIn([file, ...args]: Through, name: string): Promise<Switch> {
    const process = start(file!, [...args, 'unshare', '--net', 'sh', '-c', BRIDGE], { name })
    await process.waitForOutput(/ready/)
    return new Switch(process)
  }

  /** A namespace of its own, with a cable from the switch to its `device`, which has no address yet. */
  async plugIn(name: string, device: string): Promise<{ through: Through; holder: RunningProcess }> {
    const inSwitch = enter(this.#process)
    const [file, ...args] = [...inSwitch, 'unshare', '--net', 'sh', '-c', 'echo ready; exec cat']
    const holder = start(file!, args, { name })
    await holder.waitForOutput(/ready/)
    const through = enter(holder)
    await shell(through, 'ip link set lo up')
    await this.connect(holder, device)
    return { through, holder }
  }

  /** One more cable to a namespace. */
  async connect({ child }: RunningProcess, device: string): Promise<void> {
    const port = `port${++this.#ports}`
    const cable = `ip link add ${port} type veth peer name ${device} netns ${child.pid}`
    await shell(enter(this.#process), `${cable} && ip link set ${port} master br0 up`)
  }
}

/** `unshare` and `sh` gave their place to what they started, so its pid is the namespace's. */
function enter({ child }: RunningProcess): Through {
  return ['nsenter', '--preserve-credentials', '--user', '--net', '--target', String(child.pid)]
}

export async function shell([file, ...args]: Through, script: string): Promise<string> {
  const { status, stdout, stderr } = await run(file!, [...args, 'sh', '-c', script], {
    name: script
  })
  if (status !== 0) throw new Error(`${script}: ${stderr}`)
  return stdout
}
