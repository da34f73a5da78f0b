/**
 * Boots a disk in QEMU without acceleration and talks to its serial console.
 *
 * The disk is a file or an NBD export. QEMU's `reconnect-delay` is set, so that a daemon that is started again only
 * pauses the guest. The console is QEMU's stdin and stdout.
 */
import { type RunningProcess, start } from './processes.ts'

export interface BootOptions {
  /** nbd+unix:///EXPORT?socket=PATH, or the path of a raw file (never written to). */
  disk: string
  memoryMb?: number
  /** How long QEMU waits for the server to come back, in seconds. */
  reconnectDelaySeconds?: number
  /** More arguments for QEMU. */
  extra?: string[]
}

const COMMAND_TIMEOUT_MS = 120_000
const TCG = ['-accel', 'tcg,thread=multi', '-cpu', 'max', '-smp', '1', '-display', 'none', '-nodefaults', '-no-reboot']
/** What a kernel or the tiny appliance says when its disk fails. */
export const DISK_TROUBLE =
  /I\/O error|Buffer I\/O|EXT4-fs error|Remounting filesystem read-only|DISK-(ERROR|MISMATCH)/i

export class Guest {
  readonly process: RunningProcess

  constructor(process: RunningProcess) {
    this.process = process
  }

  get console(): string {
    return this.process.stdout
  }

  async waitFor(pattern: RegExp, timeoutMs: number): Promise<RegExpMatchArray> {
    return await this.process.waitForOutput(pattern, { timeoutMs })
  }

  /** Types into the serial console. */
  type(text: string): void {
    this.process.child.stdin?.write(text)
  }

  /** Logs in at the prompt of the Debian appliance and waits for its shell. */
  async login(timeoutMs: number): Promise<void> {
    await this.waitFor(/login: /, timeoutMs)
    this.type('root\n')
    await this.waitFor(/Password: /, timeoutMs)
    this.type('root\n')
    await this.waitFor(/root@\S+#/, timeoutMs)
  }

  /** What runs a shell line in the guest, where somebody is logged in, and returns what it printed; its status must be 0. */
  shell(): (line: string) => Promise<string> {
    let count = 0
    return async line => {
      const id = `${++count}`.padStart(4, '0')
      const before = this.console.length
      // The typed line holds the quotes, so only what the shell makes of it matches.
      this.type(`{ ${line}; } 2>&1; echo "DONE"-${id}-$?\n`)
      const [, status] = await this.waitFor(new RegExp(`DONE-${id}-(\\d+)`), COMMAND_TIMEOUT_MS)
      const printed = this.console.slice(before)
      if (status !== '0') throw new Error(`${line}: status ${status}\n${printed}`)
      return printed
    }
  }

  /** The plug is pulled. */
  async powerOff(): Promise<void> {
    await this.process.stop('SIGKILL')
  }
}

/** The `-drive` value for a disk. */
export function driveOption(options: BootOptions): string {
  const escaped = (value: string) => value.replaceAll(',', ',,')
  if (!options.disk.startsWith('nbd+unix:')) {
    return `file=${escaped(options.disk)},format=raw,if=virtio,snapshot=on`
  }
  const uri = new URL(options.disk)
  const path = uri.searchParams.get('socket')
  if (path === null) throw new Error(`no socket in ${options.disk}`)
  return [
    'file.driver=nbd',
    'file.server.type=unix',
    `file.server.path=${escaped(path)}`,
    `file.export=${escaped(decodeURIComponent(uri.pathname.slice(1)))}`,
    `file.reconnect-delay=${options.reconnectDelaySeconds ?? 60}`,
    'format=raw',
    'if=virtio'
  ].join(',')
}

export function boot(options: BootOptions): Guest {
  const args = [...TCG, '-m', String(options.memoryMb ?? 64), '-chardev', 'stdio,id=console,signal=off']
  args.push('-serial', 'chardev:console', '-drive', driveOption(options), ...(options.extra ?? []))
  return new Guest(start('qemu-system-x86_64', args, { name: 'qemu' }))
}
