/**
 * A control server whose commands a test gives: the other end of the command line.
 */
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { ControlServer } from '../../../src/node/control-server.ts'
import type { CommandTable } from '../../../src/node/daemon-api.ts'
import { lineLog } from '../../../src/node/system.ts'
import { temporaryFolder } from '../../tools/folders.ts'
import { run } from '../../tools/processes.ts'

export const ROWAN = fileURLToPath(new URL('../../../bin/rowan', import.meta.url))

export interface Outcome {
  status: number | null
  stdout: string
  stderr: string
}

export class DaemonDouble {
  readonly home: string
  readonly #server: ControlServer
  /** What was asked: command and parameters. */
  readonly asked: [string, unknown][] = []

  private constructor(home: string, commands: CommandTable) {
    this.home = home
    const recording: CommandTable = Object.fromEntries(
      Object.entries(commands).map(([name, command]) => [
        name,
        (params, context) => {
          this.asked.push([name, params])
          return command(params, context)
        }
      ])
    )
    this.#server = new ControlServer(
      { commands: recording, log: lineLog('silent') },
      { socketPath: join(home, 'control.sock'), version: '0.1.0' }
    )
  }

  static async start(commands: CommandTable): Promise<DaemonDouble> {
    const double = new DaemonDouble(await temporaryFolder(), commands)
    await double.#server.start()
    return double
  }

  async stop(): Promise<void> {
    await this.#server.stop()
  }

  /** Runs the command line on this home. */
  rowan(args: string[], options: { env?: NodeJS.ProcessEnv; cwd?: string; input?: string } = {}): Promise<Outcome> {
    return run(ROWAN, ['--home', this.home, ...args], options)
  }
}
