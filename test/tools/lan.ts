/**
 * A network of its own for a test: hosts on one switch, in namespaces that end with the test.
 *
 * A user namespace makes it possible without being root; inside it, one network namespace is the switch and each host
 * has another. What holds them is a process that waits for its input to end, so nothing outlives the test.
 */
import { type RunningProcess, run, start } from './processes.ts'

/** What a host's commands are run through. */
export type Through = string[]

const READY_TIMEOUT_MS = 10_000

export class TestLan {
  readonly #switch: RunningProcess
  #hosts = 0

  private constructor(theSwitch: RunningProcess) {
    this.#switch = theSwitch
  }

  /** A switch without hosts. */
  static async create(): Promise<TestLan> {
    const script = 'ip link add br0 type bridge && ip link set br0 up && echo ready && exec cat'
    const theSwitch = start('unshare', ['--user', '--map-root-user', '--net', 'sh', '-c', script], { name: 'a switch' })
    await theSwitch.waitForOutput(/ready/, { timeoutMs: READY_TIMEOUT_MS })
    return new TestLan(theSwitch)
  }

  /** Plugs in one more host, 192.168.77.N. */
  async host(): Promise<{ address: string; through: Through }> {
    const number = ++this.#hosts
    const address = `192.168.77.${number}`
    const name = `host ${address}`
    const inSwitch = enter(this.#switch)
    const holder = start(inSwitch[0]!, [...inSwitch.slice(1), 'unshare', '--net', 'sh', '-c', 'echo ready; exec cat'], {
      name
    })
    await holder.waitForOutput(/ready/, { timeoutMs: READY_TIMEOUT_MS })
    const inHost = enter(holder)
    await shell(
      inSwitch,
      `ip link add port${number} type veth peer name eth0 netns ${holder.child.pid} && ip link set port${number} master br0 up`
    )
    await shell(
      inHost,
      `ip link set lo up && ip addr add ${address}/24 dev eth0 && ip link set eth0 up && ip route add default dev eth0`
    )
    return { address, through: inHost }
  }
}

/** `unshare` and `sh` gave their place to what they started, so its pid is the namespace's. */
function enter({ child }: RunningProcess): Through {
  return ['nsenter', '--preserve-credentials', '--user', '--net', '--target', String(child.pid)]
}

async function shell([file, ...args]: Through, script: string): Promise<void> {
  const { status, stderr } = await run(file!, [...args, 'sh', '-c', script], {
    name: script,
    timeoutMs: READY_TIMEOUT_MS
  })
  if (status !== 0) throw new Error(`${script}: ${stderr}`)
}
