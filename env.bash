# Source this (bash or zsh, from any folder) to have `vla`, python, colcon and the built workspace in a shell.
# What you have set yourself before stays: Fast DDS transports, MUJOCO_GL, ROS_DOMAIN_ID ...

_vla_root="$(builtin cd "$(dirname "${BASH_SOURCE[0]:-${(%):-%x}}")" > /dev/null && pwd)"

if [ ! -f "$_vla_root/install/local_setup.bash" ] || [ ! -x "$_vla_root/.venv/bin/python" ]; then
  echo "env.bash: the workspace is not built yet. Run: make -C $_vla_root setup" >&2
  unset _vla_root
  return 1 2> /dev/null || exit 1
fi

export VIRTUAL_ENV="$_vla_root/.venv"
case ":$PATH:" in *":$VIRTUAL_ENV/bin:"*) ;; *) export PATH="$VIRTUAL_ENV/bin:$PATH" ;; esac

if grep -q "include-system-site-packages = false" "$VIRTUAL_ENV/pyvenv.cfg"; then  # ROS 2 from wheels: the virtual environment is the underlay
  export AMENT_PREFIX_PATH="$VIRTUAL_ENV" CMAKE_PREFIX_PATH="$VIRTUAL_ENV"
  if [ -z "${_ROS_WHEELS_BOOTSTRAP_COMPLETE:-}" ]; then  # or each python starts itself twice to set this
    for _vla_libs in "$VIRTUAL_ENV"/lib "$VIRTUAL_ENV"/lib/python3*/site-packages/ros_*.libs; do
      [ -d "$_vla_libs" ] && LD_LIBRARY_PATH="$_vla_libs${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"
    done
    export LD_LIBRARY_PATH _ROS_WHEELS_BOOTSTRAP_COMPLETE=1
  fi
fi

# The simulated rig renders without a display.
export MUJOCO_GL="${MUJOCO_GL:-egl}"

if [ -n "${ZSH_VERSION:-}" ]; then
  . "$_vla_root/install/local_setup.zsh"
else
  . "$_vla_root/install/local_setup.bash"
fi
# Fast DDS' default transports lose most raw camera frames between two processes of one machine.
eval "$(python -m vla_bringup.transports)"
unset _vla_root _vla_libs
